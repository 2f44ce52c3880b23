"""The margin of the best, and pass@k in closed form against every subset."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

passk, passk_training = rm.group.passk, rm.group.passk_training

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7, -1.0]), st.integers(-640, 640).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans()), max_size=24)
BINARY = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.integers(0, 2), st.booleans()), max_size=18)
DTYPES = st.sampled_from([np.float32, np.float64])
RULES = st.fixed_dictionaries(
    {
        "eps": st.sampled_from([1e-6, 1e-2]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool)


def test_the_margin_by_hand():
    r, ids = [0.25, 1.0, 0.5, 1.0, 1.0, 0.0, -2.0, -1.0], list("aaabbbcc")
    assert passk(r, ids).tolist() == [0, 0.5, 0, 0, 0, 0, 0, 1]
    assert_allclose(passk(r, ids, scale="std", eps=0.0), [0, 0.5 / np.std(r[:3], ddof=1), 0, 0, 0, 0, 0, math.sqrt(2)])
    assert passk([3.0], [0]).tolist() == [0.0]
    assert passk([3.0], [0], singleton="raw").tolist() == [3.0]
    with pytest.raises(ValueError, match=r"passk\(\): 'groups' has a group with one valid member"):
        passk([3.0], [0], convention=rm.conventions.VERL)


@given(
    ROWS, RULES, st.sampled_from(["none", "std"]), st.sampled_from(["zero", "unscaled", "nan"]), st.booleans(), DTYPES
)
def test_the_margin_is_the_oracle(oracle, tolerance, rows, rules, scale, zero_spread, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    options = {"scale": scale, "zero_spread": zero_spread, "valid": valid if masked else None, **rules}
    expected = oracle("group/passk.py", "passk")(r, ids, **options)
    assert_allclose(passk(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]), st.sampled_from(["none", "std"]))
def test_the_margin_is_the_oracle_with_nan(oracle, tolerance, rows, every, nan, scale):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/passk.py", "passk")(r, ids, nan=nan, scale=scale)
    assert_allclose(passk(r, ids, nan=nan, scale=scale), expected, **tolerance("float64"))


@given(ROWS, st.integers(-100, 100))
def test_laws_of_the_margin(same_bits, rows, shift):
    r, ids, _ = unzip(rows)
    r = np.round(r * 64) / 64
    base = passk(r, ids)
    same_bits(passk(r + shift, ids), base)
    same_bits(passk(4 * r, ids), 4 * base)
    assert (base >= 0).all()
    assert (rm.ops.segment_count(ids, valid=base > 0) <= 1).all()


def test_passk_messages():
    with pytest.raises(ValueError, match=r"passk\(\): 'scale' must be one of 'none', 'std', got True"):
        passk([1.0, 0.0], [0, 0], scale=True)


@given(BINARY, st.integers(1, 6), RULES, st.booleans(), DTYPES)
def test_passk_training_is_every_subset(oracle, tolerance, rows, k, rules, masked, dtype):
    r, ids, valid = unzip(rows, dtype)
    counts = rm.ops.segment_count(ids, valid=valid if masked else None)
    k = min([k, *counts[counts > 0]])
    options = {"valid": valid if masked else None, **rules}
    expected = oracle("group/passk.py", "passk_training")(r, ids, k, **options)
    assert_allclose(passk_training(r, ids, k, **options), expected, **tolerance(dtype.__name__))


@given(BINARY, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_passk_training_is_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/passk.py", "passk_training")(r, ids, 1, nan=nan)
    assert_allclose(passk_training(r, ids, 1, nan=nan), expected, **tolerance("float64"))


@given(BINARY, RULES)
def test_pass_at_1_is_grpo(tolerance, rows, rules):
    r, ids, valid = unzip(rows)
    grpo = rm.group.grpo(r, ids, ddof=0, valid=valid, **rules)
    assert_allclose(passk_training(r, ids, 1, valid=valid, **rules), grpo, **tolerance("float64"))


@pytest.mark.parametrize("n", range(2, 13))
def test_laws_of_passk_training(n):
    for k in range(1, n + 1):
        for c in range(n + 1):
            got = passk_training([1] * c + [0] * (n - c), [0] * n, k, eps=0.0)
            assert_allclose(got.sum(), 0, atol=1e-12)
            # As the authors' code has it, of which ours for failures is a rearrangement.
            fail = math.comb(n - c, k) / math.comb(n, k)
            sigma = math.sqrt(fail * (1 - fail))
            if sigma == 0:
                assert not got.any()
                continue
            assert_allclose(got[:c], fail / sigma, rtol=1e-12)
            paper = (fail - math.comb(n - c - 1, k - 1) / math.comb(n - 1, k - 1)) / sigma
            assert_allclose(got[c:], paper, rtol=1e-9)  # theirs subtracts nearly equal numbers


def test_large_groups_and_k_are_exact():
    n, c, k = 1000, 3, 400
    got = passk_training([1] * c + [0] * (n - c), [0] * n, k, eps=0.0)
    fail = math.comb(n - c, k) / math.comb(n, k)
    assert_allclose(got[0], math.sqrt(fail / (1 - fail)), rtol=1e-12)


def test_passk_training_messages():
    r, ids = [1, 0, 0, 1, 0], list("aaabb")
    with pytest.raises(
        ValueError, match=r"passk_training\(\): 'k' must be at most 2, the valid rollouts of group 'b', got 3"
    ):
        passk_training(r, ids, 3)
    with pytest.raises(ValueError, match="'k' must be at most 1, the valid rollouts of group 'b', got 2"):
        passk_training(r, ids, 2, valid=[1, 1, 1, 1, 0])
    assert passk_training(r, ids, 3, valid=[1, 1, 1, 0, 0]).tolist() == [0.0] * 5  # an empty group has no say
    for k, error, message in [
        (0, ValueError, "'k' must be at least 1, got 0"),
        (1.5, TypeError, "'k' must be a whole number, got an object of type float"),
        (True, TypeError, "'k' must be a whole number, got an object of type bool"),
        ("2", TypeError, "'k' must be a whole number, got an object of type str"),
    ]:
        with pytest.raises(error, match=rf"passk_training\(\): {message}"):
            passk_training(r, ids, k)
    with pytest.raises(ValueError, match=r"passk_training\(\): 'rewards' must be 0 or 1, got 0.5 at index 2"):
        passk_training([1, 0, 0.5, 1, 0], ids, 1)
    assert passk_training(r, ids, np.int64(2)).tolist() == passk_training(r, ids, 2).tolist()
