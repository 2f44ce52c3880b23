"""Dr. GRPO and ReMax: what is subtracted, and nothing divided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

dr_grpo, remax = rm.group.dr_grpo, rm.group.remax

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-6400, 6400).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_by_hand(vectors):
    v = vectors("flat")["copg"]  # n / (n - 1) of it is RLOO
    assert_allclose(2 * 3 / 2 * dr_grpo(v["R_beta"], [0, 0, 0]), v["rloo"], atol=1e-15)
    assert dr_grpo([3.0, 1.0, 0.0, 5.0], [0, 1, 1, 0]).tolist() == [-1.0, 0.5, -0.5, 1.0]


@given(ROWS, st.sampled_from(["zero", "raw", "abs", "nan"]), st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, singleton, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    options = {"singleton": singleton, "valid": valid if masked else None}
    expected = oracle("group/dr_grpo.py", "dr_grpo")(r, ids, **options)
    assert_allclose(dr_grpo(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/dr_grpo.py", "dr_grpo")(r, ids, nan=nan)
    assert_allclose(dr_grpo(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.integers(-100, 100), st.sampled_from([0.25, 2.0, 64.0]))
def test_shift_scale_and_relatives(tolerance, same_bits, rows, shift, factor):
    r, ids, _ = unzip(rows)
    base = dr_grpo(r, ids)
    assert_allclose(dr_grpo(r + shift, ids), base, **tolerance("float64"))
    same_bits(dr_grpo(r * factor, ids), base * factor)
    same_bits(base, rm.group.grpo(r, ids, scale="none"))
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("framework", "alone"),
    [("VERL", 3.0), ("TRL", 0.0), ("SKYRL", 3.0), ("AREAL", 0.0), ("SLIME", 0.0), ("PRIME_RL", 0.0), ("NEMO_RL", 0.0)],
)
def test_frameworks_disagree_on_a_group_of_one(framework, alone):
    assert dr_grpo([3.0, 1.0, 0.0], [0, 1, 1], convention=getattr(rm.conventions, framework)).tolist() == [
        alone,
        0.5,
        -0.5,
    ]


def test_openrlhf_refuses_a_group_of_one():
    with pytest.raises(ValueError, match=r"dr_grpo\(\): 'groups' has a group with one valid member"):
        dr_grpo([3.0], [0], convention=rm.conventions.OPENRLHF)


@given(ROWS, DTYPES, st.sampled_from(["omit", "propagate"]), st.integers(1, 5))
def test_remax_is_the_oracle(oracle, tolerance, rows, dtype, nan, every):
    r, baselines, valid = unzip(rows, dtype)
    r[::every] = np.nan
    expected = oracle("group/remax.py", "remax")(r, baselines, valid=valid, nan=nan)
    assert_allclose(remax(r, baselines, valid=valid, nan=nan), expected, **tolerance(dtype.__name__))


def test_remax_by_hand():
    groups = rm.Groups(["p", "q", "p"])
    assert remax([1.0, 0.0, 0.5], rm.ops.gather([0.25, 1.0], groups)).tolist() == [0.75, -1.0, 0.25]
    # Float32 rewards, float64 baselines: one rounding.
    assert remax(np.float32([0.1]), np.array([0.3])).tolist() == [np.float32(np.float64(np.float32(0.1)) - 0.3)]
    assert remax([1.0, 2.0], [math.nan, 1.0], nan="omit").tolist() == [0.0, 1.0]
    assert math.isnan(remax([math.inf], [math.inf], nan="propagate")[0])


def test_remax_messages():
    with pytest.raises(ValueError, match=r"remax\(\): 'baselines' must have length 2 \(= len\(rewards\)\), got 1"):
        remax([1.0, 2.0], [1.0])
    with pytest.raises(TypeError, match=r"remax\(\): 'baselines' must be 1-D"):
        remax([1.0, 2.0], 1.0)
    with pytest.raises(
        ValueError, match=r"remax\(\): 'baselines' must be finite, got nan at index 1; leave the row out"
    ):
        remax([1.0, 2.0], [0.0, math.nan])
    with pytest.raises(ValueError, match=r"remax\(\): 'baselines' must be finite, got -inf at index 0"):
        remax([1.0, 2.0], [-math.inf, math.nan], nan="omit")
