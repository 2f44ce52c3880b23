"""Lite PPO: group mean, batch standard deviation, in two readings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

lite_ppo = rm.group.lite_ppo

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
READINGS = st.sampled_from(["rewards", "residuals"])
RULES = st.fixed_dictionaries(
    {
        "ddof": st.sampled_from([0, 1]),
        "eps": st.sampled_from([1e-6, 1e-4]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_hand_checked_vectors(vectors):
    v, ids = vectors("flat")["liteppo"], [0] * 4 + [1] * 4
    assert_allclose(lite_ppo(v["r"], ids, convention=rm.conventions.TRL), v["adv_raw"], rtol=1e-12)
    residuals = rm.group.dr_grpo(v["r"], ids) / (v["std_resid"] + 1e-6)
    assert_allclose(lite_ppo(v["r"], ids, batch_std="residuals"), residuals, rtol=1e-12)
    assert_allclose(lite_ppo(v["r"], ids, batch_std="residuals", eps=0.0).std(ddof=1), 1, rtol=1e-12)


@given(ROWS, READINGS, RULES, st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, batch_std, rules, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    options = {"batch_std": batch_std, "valid": valid if masked else None, **rules}
    expected = oracle("group/lite_ppo.py", "lite_ppo")(r, ids, **options)
    assert_allclose(lite_ppo(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, READINGS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, batch_std, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/lite_ppo.py", "lite_ppo")(r, ids, batch_std=batch_std, nan=nan)
    assert_allclose(lite_ppo(r, ids, batch_std=batch_std, nan=nan), expected, **tolerance("float64"))


@given(ROWS, READINGS, st.integers(-100, 100), st.sampled_from([0.25, 2.0]))
def test_laws(tolerance, rows, batch_std, shift, factor):
    r, ids, _ = unzip(rows)
    r = np.round(r * 64) / 64
    base = lite_ppo(r, ids, batch_std=batch_std, eps=0.0)
    assert_allclose(lite_ppo(r + shift, ids, batch_std=batch_std, eps=0.0), base, **tolerance("float64"))
    assert_allclose(lite_ppo(r * factor, ids, batch_std=batch_std, eps=0.0), base, **tolerance("float64"))
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-10)


def test_residuals_of_float32_are_not_rounded_on_the_way():
    r = np.float32([0.1, 0.7, 0.2, 0.9, 0.3])
    wide = lite_ppo(r.astype(np.float64), [0, 0, 0, 1, 1], batch_std="residuals")
    assert lite_ppo(r, [0, 0, 0, 1, 1], batch_std="residuals").tolist() == wide.astype(np.float32).tolist()


def test_messages_and_options():
    with pytest.raises(ValueError, match=r"lite_ppo\(\): 'batch_std' must be one of 'rewards', 'residuals', got 'raw'"):
        lite_ppo([1.0], [0], batch_std="raw")
    assert rm.conventions.AREAL.options["lite_ppo"] == {"batch_std": "residuals"}
    # One NaN that may spread reaches every group with spread through the batch.
    got = lite_ppo([math.nan, 1.0, 1.0, 0.0, 2.0, 2.0], [0, 0, 1, 1, 2, 2], nan="propagate")
    assert np.isnan(got).tolist() == [True] * 4 + [False] * 2
