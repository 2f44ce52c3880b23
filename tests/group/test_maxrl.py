"""MaxRL: rewards over the mean of the group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

maxrl = rm.group.maxrl

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-64, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
RULES = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([0.0, 1e-6, 1e-2]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_by_hand():
    assert maxrl([1, 0, 0, 0], [7] * 4, convention=rm.conventions.PRIME_RL).tolist() == [3, -1, -1, -1]
    assert_allclose(maxrl([1, 0, 0, 0], [7] * 4), np.array([3, -1, -1, -1]) * 0.25 / (0.25 + 1e-6))
    # A mean of 0, a negative mean, no success: no signal.
    assert maxrl([1, -1, 0, -1, 0, 0], [0, 0, 1, 1, 2, 2], eps=0.0).tolist() == [0.0] * 6
    # A group of one keeps even a negative reward, if the convention says so.
    assert_allclose(maxrl([-3.0], [0], convention=rm.conventions.SKYRL), [-3.0], rtol=2e-6)


@given(ROWS, RULES, st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, rules, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    options = {"valid": valid if masked else None, **rules}
    m = rm.ops.segment_mean(r.astype(float), ids)
    # Positive and negative rewards that cancel: the quotient by a mean that is all rounding says nothing.
    if (np.abs(m[m != 0]) < 1e-9).any():
        return
    expected = oracle("group/maxrl.py", "maxrl")(r, ids, **options)
    assert_allclose(maxrl(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r = np.abs(r)
    r[::every] = np.nan
    expected = oracle("group/maxrl.py", "maxrl")(r, ids, nan=nan)
    assert_allclose(maxrl(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.sampled_from([0.25, 2.0, 64.0]))
def test_laws(same_bits, rows, factor):
    r, ids, _ = unzip(rows)
    r = np.abs(r)
    base = maxrl(r, ids, eps=0.0)
    same_bits(maxrl(r * factor, ids, eps=0.0), base)
    # Relative to the size of the group, which bounds the largest advantage.
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-10)
    assert (base >= -1).all()


def test_success_gets_one_over_p_less_one():
    for n in range(2, 20):
        for c in range(1, n):
            got = maxrl([1] * c + [0] * (n - c), [0] * n, eps=0.0)
            assert_allclose(got, [n / c - 1] * c + [-1] * (n - c), rtol=1e-14)


def test_infinity_is_not_hidden():
    assert np.isnan(maxrl([-np.inf, 1.0], [0, 0], nan="propagate")).all()


def test_a_convention_without_maxrl_says_what_it_has():
    with pytest.raises(
        ValueError, match=r"maxrl\(\): 'convention': TRL_1_16 has no convention for 'maxrl'; it has: grpo"
    ):
        maxrl([1.0], [0], convention=rm.conventions.TRL)
