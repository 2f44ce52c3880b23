"""RLOO and the statistics for logging."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

rloo, stats = rm.group.rloo, rm.group.stats

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-6400, 6400).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)


def unzip(rows):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype=np.float64), list(ids), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["copg"]
    assert_allclose(2 * rloo(v["R_beta"], [0, 0, 0]), v["rloo"], atol=1e-15)
    assert_allclose(rloo([1, 0, 0, 5], list("aaab"), singleton="raw"), [1, -0.5, -0.5, 5])
    assert rloo([0.7] * 12, [1] * 12).tolist() == [0.0] * 12


def test_frameworks_that_disagree_on_a_group_of_one():
    verl = rm.conventions.VERL
    assert rloo([3.0], [0], convention=verl).tolist() == [3.0]
    assert rloo([3.0], [0], convention=verl["rloo_vectorized"]).tolist() == [0.0]
    assert rloo([3.0], [0], convention=rm.conventions.SKYRL).tolist() == [0.0]
    with pytest.raises(ValueError, match="one valid member"):
        rloo([3.0], [0], convention=rm.conventions.OPENRLHF)


@given(ROWS, st.sampled_from(["zero", "raw", "abs", "nan"]), st.booleans())
def test_the_oracle(oracle, tolerance, rows, singleton, masked):
    r, ids, valid = unzip(rows)
    options = {"singleton": singleton, "valid": valid if masked else None}
    expected = oracle("group/rloo.py", "rloo")(r, ids, **options)
    assert_allclose(rloo(r, ids, **options), expected, **tolerance("float64"))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/rloo.py", "rloo")(r, ids, nan=nan)
    assert_allclose(rloo(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS)
def test_it_is_the_centred_reward_times_n_over_n_minus_one(tolerance, rows):
    r, ids, _ = unzip(rows)
    groups = rm.Groups(ids)
    n = groups.counts[groups.index]
    factor = np.where(n > 1, n / np.maximum(n - 1, 1), 0.0)
    assert_allclose(rloo(r, groups), factor * rm.group.grpo(r, groups, scale="none"), **tolerance("float64"))
    baseline = rm.ops.loo_mean(r, groups)
    assert_allclose(rloo(r, groups), np.where(n > 1, r - baseline, 0.0), **tolerance("float64"))
    assert_allclose(rm.ops.segment_sum(rloo(r, groups), groups), 0, atol=1e-9)


@given(ROWS, st.randoms(use_true_random=False), st.sampled_from([np.float32, np.float64]))
def test_permuting_rows_changes_no_bit(same_bits, rows, random, dtype):
    r, ids, valid = unzip(rows)
    r, ids = r.astype(dtype) * dtype(0.1), np.array(ids, dtype=np.int64)
    turn = np.arange(len(r))
    random.shuffle(turn)
    same_bits(rloo(r[turn], ids[turn], valid=valid[turn]), rloo(r, ids, valid=valid)[turn])


@pytest.mark.parametrize("method", [rloo, lambda *a, **k: rm.group.grpo(*a, scale="none", **k)])
def test_zero_spread_has_no_say_where_nothing_is_divided(method):
    assert method([1.0, 1.0], [0, 0], zero_spread="raise").tolist() == [0.0, 0.0]


@given(ROWS, st.sampled_from([0, 1, 2]), st.booleans())
def test_stats_match_the_oracle(oracle, tolerance, rows, ddof, masked):
    r, ids, valid = unzip(rows)
    mask = valid if masked else None
    expected = oracle("group/stats.py", "stats")(r, ids, valid=mask, ddof=ddof)
    for got in (stats(r, ids, valid=mask, ddof=ddof), rm.Groups(ids).stats(r, valid=mask, ddof=ddof)):
        assert isinstance(got, rm.GroupStats)
        assert got.n.dtype == np.int64
        for name in got._fields:
            assert_allclose(getattr(got, name), getattr(expected, name), **tolerance("float64"))


def test_stats_give_numpy_for_a_tensor_and_name_their_argument():
    torch = pytest.importorskip("torch")
    got = stats(torch.tensor([1.0, 0.0]), ["a", "a"])
    assert (type(got.mean), got.mean.tolist()) == (np.ndarray, [0.5])
    with pytest.raises(ValueError, match=r"stats\(\): 'rewards' must have length 2 \(= len\(groups\)\), got 1"):
        stats([1.0], ["a", "a"])
    with pytest.raises(ValueError, match=r"Groups.stats\(\): 'x' must have length 2 \(= len\(groups\)\), got 1"):
        rm.Groups(["a", "a"]).stats([1.0])
    with pytest.raises(TypeError, match=r"stats\(\): 'ddof' must be a whole number of at least 0, got 1.5"):
        stats([1.0], ["a"], ddof=1.5)


def test_stats_spread_nan():
    got = stats([math.nan, 1.0, 2.0, 3.0], [0, 0, 1, 1])
    assert [np.isnan(getattr(got, f)[0]) for f in ("mean", "min", "max")] == [True] * 3
    assert got.mean[1] == 2.5


def test_the_spread_of_nan_is_nan():
    assert math.isnan(stats([math.nan, 1.0, 2.0], [0, 0, 0]).std[0])
    assert math.isnan(stats([math.inf, 1.0, 2.0], [0, 0, 0]).std[0])
