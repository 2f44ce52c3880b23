"""Soft values: A*-PO and OPMD."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

a_star_po, opmd, soft_value = rm.group.a_star_po, rm.group.opmd, rm.group.soft_value

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)
HEATS = st.sampled_from([0.0, 1e-3, 0.5, 1.0, 20.0, math.inf])


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype=dtype), list(ids), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")
    apo, er, op = v["apo_vstar"], v["er"], v["opmd"]
    ids = [0] * 8
    assert_allclose(soft_value(apo["r"], ids, beta=apo["beta1"]), [apo["V"]], rtol=1e-14)
    assert soft_value(apo["r"], ids, beta=math.inf).tolist() == [apo["mean_limit"]]
    assert soft_value(apo["r"], ids, beta=0).tolist() == [apo["max_limit"]]
    assert_allclose(soft_value(er["r"], [0] * 4, beta=1 / er["eta"]), [er["v"]], rtol=1e-14)
    assert_allclose(a_star_po(er["r"], [0] * 4), np.array(er["r"]) - er["v"], rtol=1e-14)
    assert_allclose(opmd(op["r"], [0] * 4), np.array(op["r"]) - op["b_mean"], rtol=1e-14)
    lae = opmd(op["r"], [0] * 4, baseline="logmeanexp", tau=op["tau"])
    assert_allclose(lae, np.array(op["r"]) - op["b_lae"], rtol=1e-14)


@given(ROWS, HEATS, st.booleans(), st.sampled_from(["zero", "raw", "abs", "nan"]), st.sampled_from(["f4", "f8"]))
def test_the_oracle(oracle, tolerance, rows, heat, masked, singleton, dtype):
    r, ids, valid = unzip(rows, dtype)
    mask = valid if masked else None
    value = soft_value(r, ids, beta=heat, valid=mask)
    expected = oracle("group/soft.py", "soft_value")(r, ids, beta=heat, valid=mask)
    assert_allclose(value, expected, **tolerance(r.dtype))
    options = {"valid": mask, "singleton": singleton}
    for got, name, own in [
        (a_star_po(r, ids, beta=heat, **options), "a_star_po", {"beta": heat}),
        (opmd(r, ids, **options), "opmd", {}),
        (opmd(r, ids, baseline="logmeanexp", tau=heat, **options), "opmd", {"baseline": "logmeanexp", "tau": heat}),
    ]:
        assert got.dtype == r.dtype
        assert_allclose(got, oracle("group/soft.py", name)(r, ids, **options, **own), **tolerance(r.dtype))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    for name in ("a_star_po", "opmd"):
        expected = oracle("group/soft.py", name)(r, ids, nan=nan)
        assert_allclose(getattr(rm.group, name)(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS, HEATS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, heat, random, dtype):
    r, ids, valid = unzip(rows)
    r, ids = r.astype(dtype) * dtype(0.1), np.array(ids, dtype=np.int64)
    turn = np.arange(len(r))
    random.shuffle(turn)
    for call in (lambda *a, **k: a_star_po(*a, beta=heat, **k), opmd):
        same_bits(call(r[turn], ids[turn], valid=valid[turn]), call(r, ids, valid=valid)[turn])
    values = dict(zip(rm.Groups(ids).ids, soft_value(r, ids, beta=heat).tolist(), strict=True))
    turned = dict(zip(rm.Groups(ids[turn]).ids, soft_value(r[turn], ids[turn], beta=heat).tolist(), strict=True))
    assert values == turned


@given(ROWS, st.sampled_from([0.25, 1.0, 4.0]), st.integers(-8, 8))
def test_shift_and_scale(tolerance, rows, factor, shift):
    r, ids, _ = unzip(rows)
    base = a_star_po(r, ids, beta=0.5)
    assert_allclose(a_star_po(r + shift, ids, beta=0.5), base, **tolerance("float64"))
    assert_allclose(a_star_po(factor * r, ids, beta=0.5 * factor), factor * base, **tolerance("float64"))
    assert (rm.ops.segment_sum(base, ids) <= 1e-9).all()


@given(ROWS)
def test_the_value_lies_between_mean_and_maximum_and_falls_with_beta(rows):
    r, ids, _ = unzip(rows)
    values = [soft_value(r, ids, beta=b) for b in (0.0, 0.1, 1.0, 10.0, math.inf)]
    for hot, cold in zip(values[1:], values[:-1], strict=True):
        assert (hot <= cold + 1e-12).all()
    assert_allclose(values[0], rm.ops.segment_max(r, ids))
    assert_allclose(values[-1], rm.ops.segment_mean(r, ids))


@given(ROWS)
def test_groups_do_not_see_each_other(same_bits, rows):
    r, ids, _ = unzip(rows)
    whole = a_star_po(r, ids)
    for group in set(ids):
        mine = np.array([i == group for i in ids])
        same_bits(a_star_po(r[mine], [group] * mine.sum()), whole[mine])


def test_no_overflow_where_the_plain_formula_has_one():
    r = [1000.0, 0.0, -1000.0]
    assert_allclose(soft_value(r, [0] * 3, beta=0.5), [1000 - 0.5 * math.log(3)], rtol=1e-15)
    assert soft_value(r, [0] * 3, beta=1e-320).tolist() == [1000.0]
    assert soft_value([0.7] * 3, [0] * 3, beta=0.3).tolist() == [0.7]
    assert not a_star_po([0.7] * 3, [0] * 3, beta=0.3).any()


def test_the_value_of_a_group_left_out_is_nan():
    assert np.isnan(soft_value([1.0, 2.0], ["a", "b"], valid=[0, 1])).tolist() == [True, False]
    assert soft_value([], []).tolist() == []


def test_trinity_keeps_a_lone_reward():
    assert opmd([0.7], ["a"]).tolist() == [0.0]
    assert opmd([0.7], ["a"], convention=rm.conventions.TRINITY).tolist() == [0.7]


def test_kinds_and_layouts():
    torch = pytest.importorskip("torch")
    r, ids = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([5, 5, 6])
    for out in (a_star_po(r, ids), opmd(r, ids), soft_value(r, ids)):
        assert (type(out), out.dtype) == (torch.Tensor, torch.float32)
    wide = np.random.default_rng(0).normal(size=(6, 2))
    ids = [0, 0, 0, 1, 1, 1]
    assert (a_star_po(wide[:, 1], ids) == a_star_po(wide[:, 1].copy(), ids)).all()
    assert (soft_value(wide[:, 1], ids) == soft_value(wide[:, 1].copy(), ids)).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: soft_value([1.0], [0], beta=-1), ValueError, r"soft_value\(\): 'beta' must be at least 0 \(the maxi"),
        (lambda: a_star_po([1.0], [0], beta=math.nan), ValueError, r"a_star_po\(\): 'beta' must be at least 0 .*nan"),
        (lambda: opmd([1.0], [0], tau=-0.5), ValueError, r"opmd\(\): 'tau' must be at least 0 .*, got -0.5"),
        (lambda: opmd([1.0], [0], tau=True), TypeError, "'tau' must be a number, got True"),
        (lambda: opmd([1.0], [0], tau="1"), TypeError, "'tau' must be a number, got an object of type str"),
        (lambda: opmd([1.0], [0], baseline="max"), ValueError, "'baseline' must be one of 'mean', 'logmeanexp', got"),
        (lambda: soft_value([math.nan], [0]), ValueError, "'rewards' must be finite where rows are valid, got nan"),
        (lambda: soft_value([1.0], [0, 1]), ValueError, r"'rewards' must have length 2 \(= len\(groups\)\), got 1"),
        (
            lambda: a_star_po([math.nan], [0]),
            ValueError,
            r"a_star_po\(\): 'rewards' must be finite, got NaN at index 0",
        ),
        (lambda: a_star_po([1.0], [0], singleton="raise"), ValueError, r"a_star_po\(\): .* one valid member"),
        (
            lambda: opmd([1.0], [0], convention=rm.conventions.TRL),
            ValueError,
            r"opmd\(\): 'convention': TRL_1_16 has no",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
