"""GRPO: hand-checked numbers, the oracle under every convention, its laws, its kinds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

grpo = rm.group.grpo

#: Rewards as they come: 0/1, repeats, values whose mean rounds, and well-conditioned floats.
REWARDS = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.7, 0.1, -1.0, 1000.1]), st.integers(-6400, 6400).map(lambda k: k / 64)
)
ROWS = st.lists(st.tuples(REWARDS, st.integers(-2, 4), st.booleans()), max_size=24)
CONVENTIONS = st.fixed_dictionaries(
    {
        "ddof": st.sampled_from([0, 1]),
        "eps": st.sampled_from([1e-9, 1e-6, 1e-4]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
        "zero_spread": st.sampled_from(["zero", "unscaled", "nan"]),
    }
)


def unzip(rows):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype=np.float64), list(ids), np.array(valid, dtype=bool)


def test_hand_checked_vectors(vectors):
    v = vectors("flat")["grpo"]
    assert_allclose(grpo(v["r"], v["g"]), v["adv_ddof1"], rtol=1e-14)
    assert_allclose(grpo(v["r"], v["g"], ddof=0), v["adv_ddof0"], rtol=1e-14)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, 0.0),
        ({"singleton": "raw"}, -7 / (1 + 1e-6)),
        ({"singleton": "raw", "scale": "none"}, -7.0),
        ({"singleton": "abs"}, -7 / (7 + 1e-6)),
        ({"singleton": "nan"}, math.nan),
        ({"convention": rm.conventions.VERL}, -7 / (1 + 1e-6)),
        ({"convention": rm.conventions.TRL}, 0.0),
        ({"convention": rm.conventions.SLIME}, math.nan),
    ],
)
def test_a_group_of_one(keywords, expected):
    assert_allclose(grpo([-7.0, 1.0, 1.0], [5, 6, 6], **keywords), [expected, 0, 0])


@pytest.mark.parametrize("value", [0.7, 0.1, 0.9, 1000.1, 1e-300, -3.3, 1e300])
@pytest.mark.parametrize("leave_one_out", [False, True])
def test_equal_rewards_are_exactly_zero(value, leave_one_out):
    sizes = list(range(2, 66))
    out = grpo(np.full(sum(sizes), value), rm.Groups.from_sizes(sizes), leave_one_out=leave_one_out, eps=0.0)
    assert not out.any()


def test_zero_spread_policies():
    r, ids = [1.0, 1.0, 0.0, 1.0], [0, 0, 1, 1]
    assert np.isnan(grpo(r, ids, zero_spread="nan")).tolist() == [True, True, False, False]
    assert grpo(r, ids, zero_spread="unscaled")[:2].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"grpo\(\): 'groups' has a group without spread \(the group of row 0\)"):
        grpo(r, ids, zero_spread="raise")


@given(ROWS, CONVENTIONS, st.booleans(), st.sampled_from(["std", "none"]), st.booleans())
def test_the_oracle(oracle, tolerance, rows, convention, leave_one_out, scale, masked):
    r, ids, valid = unzip(rows)
    options = {"leave_one_out": leave_one_out, "scale": scale, "valid": valid if masked else None}
    expected = oracle("group/grpo.py", "grpo")(r, ids, **options, **convention)
    assert_allclose(grpo(r, ids, **options, **convention), expected, **tolerance("float64"))
    as_convention = grpo(r, ids, **options, convention=rm.Convention(**convention))
    assert_allclose(as_convention, expected, **tolerance("float64"))


@given(ROWS, st.lists(st.sampled_from([math.nan, math.nan, 0.5]), max_size=24), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, holes, nan):
    r, ids, valid = unzip(rows)
    n = min(len(r), len(holes))
    r[:n] = np.where(np.isnan(holes[:n]), np.nan, r[:n])
    expected = oracle("group/grpo.py", "grpo")(r, ids, valid=valid, nan=nan)
    assert_allclose(grpo(r, ids, valid=valid, nan=nan), expected, **tolerance("float64"))


def test_nan_and_infinity_policies():
    r, ids = [1.0, math.nan, 3.0, math.inf], [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"grpo\(\): 'rewards' must be finite, got NaN at index 1; leave the row out"):
        grpo(r, ids)
    with pytest.raises(ValueError, match="got inf at index 3; nan='omit' takes NaN for a missing value"):
        grpo(r, ids, nan="omit")
    # A row that takes no part may hold anything.
    half = math.sqrt(0.5)
    assert_allclose(grpo(r, ids, valid=[1, 0, 1, 0], eps=0.0), [-half, 0, half, 0])
    assert np.isnan(grpo(r, ids, nan="propagate")).all()


def test_infinity_spreads_over_its_group():
    assert np.isnan(grpo([math.inf, 1.0, 2.0], [0, 0, 0], nan="propagate")).all()


@given(ROWS, st.integers(-100, 100), st.sampled_from([0.25, 2.0, 64.0]))
def test_shift_and_scale(tolerance, rows, shift, factor):
    r, ids, _ = unzip(rows)
    r = np.round(r * 64) / 64
    base = grpo(r, ids, eps=0.0)
    assert_allclose(grpo(r + shift, ids, eps=0.0), base, **tolerance("float64"))
    assert_allclose(grpo(r * factor, ids, eps=0.0), base, **tolerance("float64"))
    assert_allclose(grpo(-r, ids, eps=0.0), -base, **tolerance("float64"))


@given(ROWS)
def test_a_group_sums_to_zero(rows):
    r, ids, _ = unzip(rows)
    assert_allclose(rm.ops.segment_sum(grpo(r, ids), ids), 0, atol=1e-11)


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]), st.booleans())
def test_permuting_rows_changes_no_bit(same_bits, rows, random, dtype, leave_one_out):
    r, ids, valid = unzip(rows)
    r, ids = r.astype(dtype) * dtype(0.1), np.array(ids, dtype=np.int64)
    turn = np.arange(len(r))
    random.shuffle(turn)
    options = {"leave_one_out": leave_one_out}
    same_bits(grpo(r[turn], ids[turn], valid=valid[turn], **options), grpo(r, ids, valid=valid, **options)[turn])


@given(ROWS)
def test_groups_do_not_see_each_other(same_bits, rows):
    r, ids, _ = unzip(rows)
    together, groups = grpo(r, ids), rm.Groups(ids)
    for members in map(groups.rows, range(groups.n_groups)):
        same_bits(grpo(r[members], np.zeros(len(members), int)), together[members])


def test_kinds(tolerance):
    torch = pytest.importorskip("torch")
    r, ids = np.array([1.0, 0.0, 0.5, 1.0, 0.25, 0.25]), np.array([0, 1, 0, 1, 0, 1])
    expected = grpo(r, ids)
    for dtype, out in [("f8", "f8"), ("f4", "f4"), ("f2", "f4"), (">f8", "f8"), (">f4", "f4")]:
        got = grpo(r.astype(dtype), ids)
        assert got.dtype == np.dtype(out)
        assert_allclose(got, expected, **tolerance(got.dtype))
    for dtype, out in [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)]:
        got = grpo(torch.tensor(r, dtype=dtype), torch.tensor(ids))
        assert isinstance(got, torch.Tensor)
        assert got.dtype == out
        assert_allclose(got.numpy(), expected, **tolerance(got.dtype))
    for x, dtype in [([1, 0, 1, 1, 0, 0], np.float64), ([True, False] * 3, np.float64), (range(6), np.float64)]:
        assert grpo(x, ids).dtype == dtype
    for x in (torch.tensor([1, 0, 1, 1, 0, 0]), torch.tensor([True, False] * 3), torch.ones(6, dtype=torch.float16)):
        assert grpo(x, ids).dtype == torch.float32


def test_inputs_stay_as_they_are_and_need_no_layout(same_bits):
    wide = np.arange(24.0).reshape(4, 6) % 5
    ids, valid = np.array([0, 1, 0, 1]), np.array([1, 1, 0, 1])
    before = wide.copy(), ids.copy(), valid.copy()
    expected = grpo(wide[:, 2].copy(), ids, valid=valid)
    for column in (wide[:, 2], np.asfortranarray(wide)[:, 2], wide[::-1, 2][::-1]):
        same_bits(grpo(column, ids[::-1][::-1], valid=valid), expected)
    wide.setflags(write=False)
    same_bits(grpo(wide[:, 2], ids, valid=valid), expected)
    for now, then in zip((wide, ids, valid), before, strict=True):
        same_bits(now, then)


def test_one_group_of_a_hundred_thousand(oracle, tolerance):
    r = np.random.default_rng(0).normal(size=100_000)
    expected = (r - r.mean()) / (r.std(ddof=1) + 1e-6)
    assert_allclose(grpo(r, np.zeros(len(r), int)), expected, **tolerance("float64"))


@pytest.mark.parametrize("value", ["no", math.nan, 1, None])
def test_leave_one_out_is_a_bool(value):
    with pytest.raises(TypeError, match=rf"grpo\(\): 'leave_one_out' must be True or False, got '?{value}"):
        grpo([1.0, 0.0], [0, 0], leave_one_out=value)


def test_no_degrees_of_freedom_are_refused():
    with pytest.raises(ValueError, match=r"grpo\(\): 'ddof' must be a whole number from 0 to 1, got 2"):
        grpo([1.0, 2.0, 4.0], [0, 0, 0], ddof=2)


def test_infinity_among_others_without_spread_is_not_hidden():
    got = grpo([math.inf, 1.0, 1.0], [0] * 3, leave_one_out=True, nan="propagate")
    assert not np.isfinite(got).any()


def test_leave_one_out_standard_deviation_survives_an_outlier():
    others = np.random.default_rng(3).normal(size=7)
    for outlier in (1e3, 1e5, 1e7):
        r = np.append(others, outlier)
        got = grpo(r, np.zeros(8, int), leave_one_out=True, eps=0.0)[-1]
        assert got == pytest.approx((outlier - others.mean()) / others.std(ddof=1), rel=1e-9)


def test_real_rollouts_of_which_few_groups_carry_signal(samples, oracle, tolerance):
    lines = (samples("math-8-samples") / "math_cot_100.jsonl").read_text().splitlines()
    scores = [json.loads(line)["score"] for line in lines]
    ids = [k for k, row in enumerate(scores) for _ in row]
    r = np.array([float(s) for row in scores for s in row])
    advantages = grpo(r, ids)
    assert_allclose(advantages, oracle("group/grpo.py", "grpo")(r, ids), **tolerance("float64"))
    mixed = {k for k, row in enumerate(scores) if len(set(row)) > 1}
    assert {ids[i] for i in np.flatnonzero(advantages)} == mixed
