"""COPO: local and global advantages, blended by the entropy of the answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

copo = rm.group.copo

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.5, -1.0]), st.integers(-64, 64).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.integers(0, 2), st.booleans()), max_size=24)
OPTIONS = st.fixed_dictionaries(
    {
        "steepness": st.sampled_from([20.0, 1.0, 0.0]),
        "threshold": st.sampled_from([0.5, 0.0, 1.0]),
        "consistency_penalty": st.booleans(),
        "forced": st.booleans(),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, answers, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(r, dtype=dtype), np.array(ids, dtype=int), np.array(answers, dtype=int), np.array(valid, dtype=bool)


#: Groups with entropies 0, 1.5 and 0 bits and mean rewards 1, 1/2 and 0.
THREE = (
    [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
    ["a"] * 4 + ["b"] * 4 + ["c"] * 4,
    ["7"] * 4 + ["7", "8", "9", "9"] + ["0"] * 4,
)


def test_by_hand(vectors):
    v = vectors("flat")["copo"]
    out = copo(*THREE, consistency_penalty=True)
    assert_allclose(out.across[::4], v["A_global"], rtol=1e-14)
    assert_allclose(out.weight[::4], v["w_local"], rtol=1e-14)
    # The reward of the middle group: 1/2 (1 - 3/8 * 3/2).
    mean = np.array(v["global_reward"])
    assert_allclose(out.across[::4], (mean - mean.mean()) / (mean.std(ddof=1) + 1e-6))
    assert_allclose(out.local, rm.group.grpo(THREE[0], THREE[1]))


@given(ROWS, OPTIONS, st.booleans(), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, options, masked, dtype):
    r, ids, answers, valid = unzip(rows, dtype)
    mask = valid if masked else None
    for rules in ({}, {"ddof": 0, "eps": 1e-3, "singleton": "raw"}):
        args = (r, ids.tolist(), answers.tolist())
        expected = oracle("group/copo.py", "copo")(*args, valid=mask, **options, **rules)
        got = copo(r, ids, answers, valid=mask, **options, **rules)
        for column, wanted in zip(got, expected, strict=True):
            assert column.dtype == r.dtype
            assert_allclose(column, wanted, **tolerance(r.dtype))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, answers, valid = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/copo.py", "copo")(r, ids.tolist(), answers.tolist(), valid=valid, nan=nan)
    for column, wanted in zip(copo(r, ids, answers, valid=valid, nan=nan), expected, strict=True):
        assert_allclose(column, wanted, **tolerance("float64"))


@given(ROWS, OPTIONS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, options, random, dtype):
    r, ids, answers, valid = unzip(rows)
    r = r.astype(dtype) * dtype(0.1)
    turn = np.arange(len(r))
    random.shuffle(turn)
    got = copo(r[turn], ids[turn], answers[turn], valid=valid[turn], **options)
    for column, wanted in zip(got, copo(r, ids, answers, valid=valid, **options), strict=True):
        same_bits(column, wanted[turn])


@given(ROWS)
def test_names_of_answers_and_shifts_of_rewards_do_not_matter(tolerance, rows):
    r, ids, answers, _ = unzip(rows)
    base = copo(r, ids, answers, eps=0.0)
    named = copo(r, ids, [f"{g}/{a}" for g, a in zip(ids, answers, strict=True)], eps=0.0)
    for column, wanted in zip(named, base, strict=True):
        assert_allclose(column, wanted, **tolerance("float64"))
    moved = copo(r + 2, ids, answers, eps=1e-6)
    for column, wanted in zip(moved, copo(r, ids, answers), strict=True):
        # A mean of thirds moves by a rounding, of which z-scores of all but equal groups make up to 1e-9.
        assert_allclose(column, wanted, rtol=1e-9, atol=1e-8)


def test_agreement_is_exactly_without_entropy_and_uniform_answers_have_log2():
    out = copo([1.0, 0.0] * 4, [0] * 8, list("aabbccdd"), steepness=1.0, threshold=0.0)
    assert_allclose(out.weight, 1 / (1 + math.exp(-2)), rtol=1e-15)
    out = copo([1.0, 0.0, 1.0], [0] * 3, ["x"] * 3, steepness=1.0, threshold=0.0)
    assert out.weight.tolist() == [0.5] * 3


def test_groups_that_all_agree_learn_from_the_comparison_with_others():
    out = copo([1.0, 1.0, 0.0, 0.0], list("aabb"), list("xxyy"))
    assert not out.local.any()
    assert_allclose(out.across, [0.70710578, 0.70710578, -0.70710578, -0.70710578], rtol=1e-6)
    assert_allclose(out.advantages, out.across, rtol=1e-4)
    one = copo([1.0, 0.0], [0, 0], ["x", "y"])
    assert not one.across.any()  # nothing to compare with


def test_forced_leaves_nothing_to_a_group_without_local_signal():
    args = ([1.0, 1.0, 0.0, 1.0], list("aabb"), list("xyxy"))
    assert_allclose(copo(*args).weight, 1 / (1 + math.exp(-10)))
    assert copo(*args, forced=True).weight[:2].tolist() == [0.0, 0.0]
    assert copo(*args, forced=True).weight[2] > 0.99


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    out = copo(torch.tensor([1.0, 0.0]), torch.tensor([5, 6]), torch.tensor([1, 1]))
    assert {(type(c), c.dtype) for c in out} == {(torch.Tensor, torch.float32)}
    wide = np.random.default_rng(0).normal(size=(6, 2))
    strided, copied = (copo(r, [0, 0, 0, 1, 1, 1], [1] * 6) for r in (wide[:, 1], wide[:, 1].copy()))
    assert all((a == b).all() for a, b in zip(strided, copied, strict=True))
    assert [c.tolist() for c in copo([], [], [])] == [[]] * 4
    assert [c.tolist() for c in copo([math.nan, 1.0], [0, 0], [1, 1], valid=[0, 0])] == [[0.0, 0.0]] * 4


ONE = ([1.0], [0], ["x"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: copo(*ONE, steepness=-1),
            ValueError,
            r"copo\(\): 'steepness' must be finite and not negative, got -1",
        ),
        (lambda: copo(*ONE, threshold=math.inf), ValueError, "'threshold' must be finite, got inf"),
        (lambda: copo(*ONE, forced=1), TypeError, "'forced' must be True or False, got 1"),
        (
            lambda: copo(*ONE, consistency_penalty="on"),
            TypeError,
            "'consistency_penalty' must be True or False, got 'o",
        ),
        (
            lambda: copo([1.0], [0], ["x", "y"]),
            ValueError,
            r"'answers' must have length 1 \(= the number of rows\), got",
        ),
        (lambda: copo([1.0], [0], [0.5]), TypeError, r"copo\(\): 'answers' must be strings, ints, UUIDs or tuples"),
        (lambda: copo([1.0, 2.0], [0], ["x"]), ValueError, r"'rewards' must have length 1 \(= len\(groups\)\), got 2"),
        (lambda: copo([math.nan], [0], ["x"]), ValueError, r"copo\(\): 'rewards' must be finite, got NaN at index 0"),
        (lambda: copo(*ONE, singleton="raise"), ValueError, r"copo\(\): .* one valid member"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
