"""Weighted baselines: OPO and the general one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

opo, optimal_baseline = rm.group.opo, rm.group.optimal_baseline

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.integers(0, 4096)), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])


def unzip(rows, dtype=np.float64):
    """Lengths may be 0, but not in all valid rows of a group of several, nor in all rows."""
    r, ids, valid, lengths = zip(*rows, strict=True) if rows else ((), (), (), ())
    valid, lengths = np.array(valid, bool), np.array(lengths, int)
    for group in set(ids):
        for member in (np.array(ids) == group, (np.array(ids) == group) & valid):
            if member.any() and not lengths[member].any():
                lengths[np.flatnonzero(member)[0]] = 1
    return np.array(r, dtype), list(ids), valid, lengths


def test_by_hand(vectors):
    v, w = vectors("flat")["opo"], vectors("flat")["optimal_baseline"]
    assert_allclose(opo(v["r"], [0, 0, 0], v["L"]), v["adv"], rtol=1e-15)
    assert_allclose(optimal_baseline(w["r"], [0, 0, 0], w["score_norm2"]), w["adv"], rtol=1e-15)
    # A rollout of weight 0 has no say, but gets an advantage.
    assert optimal_baseline([1.0, 0.0, 5.0], [0, 0, 0], [1.0, 1.0, 0.0]).tolist() == [0.5, -0.5, 4.5]


@given(ROWS, st.sampled_from(["zero", "raw", "abs", "nan"]), st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, singleton, masked, dtype):
    r, ids, valid, lengths = unzip(rows, dtype)
    options = {"singleton": singleton, "valid": valid if masked else None}
    expected = oracle("group/opo.py", "opo")(r, ids, lengths, **options)
    assert_allclose(opo(r, ids, lengths, **options), expected, **tolerance(dtype.__name__))
    expected = oracle("group/opo.py", "optimal_baseline")(r, ids, lengths / 7, **options)
    assert_allclose(optimal_baseline(r, ids, lengths / 7, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _, lengths = unzip(rows)
    r[::every] = np.nan
    if nan == "omit":
        lengths = np.maximum(lengths, 1)  # what is left of a group needs a weight
    expected = oracle("group/opo.py", "opo")(r, ids, lengths, nan=nan)
    assert_allclose(opo(r, ids, lengths, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.integers(-100, 100))
def test_laws(tolerance, same_bits, rows, shift):
    r, ids, _, lengths = unzip(rows)
    base = opo(r, ids, lengths)
    assert_allclose(opo(r + shift, ids, lengths), base, **tolerance("float64"))
    same_bits(opo(4 * r, ids, 8 * lengths), 4 * base)
    assert_allclose(opo(r, ids, np.full(len(r), 7)), rm.group.dr_grpo(r, ids), **tolerance("float64"))
    # Weighted by length it sums to 0; relative to the length of the group, since that is what is summed over.
    total = rm.ops.segment_sum(base * lengths, ids) / np.maximum(rm.ops.segment_sum(lengths.astype(float), ids), 1)
    assert_allclose(total, 0, atol=1e-12)


@given(ROWS)
def test_the_optimal_baseline_has_the_least_variance(rows):
    """Weighted sum of squares (r - b)^2 w over a group, which is what the squared gradients add up to."""
    r, ids, _, w = unzip(rows)
    best = rm.ops.segment_sum(optimal_baseline(r, ids, w) ** 2 * w, ids)
    alone = rm.Groups(ids).counts == 1
    other = rm.ops.segment_sum(rm.group.dr_grpo(r, ids) ** 2 * w, ids)
    assert (best[~alone] <= other[~alone] * (1 + 1e-9) + 1e-9).all()


def test_messages():
    r, ids = [1.0, 0.0, 1.0], [4, 5, 5]
    with pytest.raises(ValueError, match=r"opo\(\): 'lengths' must have length 3 \(= len\(groups\)\), got 2"):
        opo(r, ids, [1, 2])
    with pytest.raises(ValueError, match=r"opo\(\): 'lengths' must not all be 0 in a group, but are in that of row 1"):
        opo(r, ids, [1, 0, 0])
    with pytest.raises(ValueError, match=r"opo\(\): 'lengths' must not all be 0 in a group, but are in that of row 1"):
        opo([*r, 0.0], [*ids, 5], [1, 0, 3, 0], valid=[1, 1, 0, 1])
    with pytest.raises(
        ValueError, match=r"opo\(\): 'lengths' must be finite and not negative where rows are valid, got -1 at index 2"
    ):
        opo(r, ids, [1, 2, -1])
    with pytest.raises(
        ValueError, match=r"optimal_baseline\(\): 'weights' must be finite and not negative where .* got nan"
    ):
        optimal_baseline(r, ids, [1.0, math.nan, 1.0])
    with pytest.raises(ValueError, match=r"optimal_baseline\(\): 'weights' must not all be 0 in a group"):
        optimal_baseline(r, ids, [1.0, 0.0, 0.0])
    # Where a rollout takes no part its weight may be anything, and an empty group needs none.
    assert opo(r, ids, [1.0, math.nan, 2.0], valid=[1, 0, 1]).tolist() == [0.0, 0.0, 0.0]
    assert opo(r, ids, [1, 0, 0], valid=[1, 0, 0]).tolist() == [0.0, 0.0, 0.0]


def test_a_lone_rollout_needs_no_weight():
    assert opo([3.0, 1.0, 0.0], [0, 1, 1], [0, 1, 1]).tolist() == [0.0, 0.5, -0.5]
    assert opo([3.0, 1.0, 0.0], [0, 1, 1], [0, 1, 1], singleton="raw").tolist() == [3.0, 0.5, -0.5]
    assert opo([3.0, 2.0], [0, 0], [0, 1], valid=[1, 0], singleton="raw").tolist() == [3.0, 0.0]


@pytest.mark.parametrize("size", [1.7e308, 1e-310])
def test_weights_as_large_or_small_as_floats_go(same_bits, size):
    """One group has such weights, the other plain ones."""
    r, ids, w = np.array([1.0, 0.0, 0.3, 0.1, 0.9]), np.array([0, 0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 3.0, 5.0])
    same_bits(optimal_baseline(r, ids, np.where(ids == 0, size, w)), optimal_baseline(r, ids, w))
