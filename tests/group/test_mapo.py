"""MAPO: the mixture, and rewards for which percent makes no sense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

mapo = rm.group.mapo

REWARDS = st.one_of(st.sampled_from([0.0, 1.0, 0.7]), st.integers(0, 128).map(lambda k: k / 64))
ROWS = st.lists(st.tuples(REWARDS, st.integers(0, 4), st.booleans(), st.booleans()), max_size=24)
DTYPES = st.sampled_from([np.float32, np.float64])
OPTIONS = st.fixed_dictionaries(
    {
        "certainty": st.sampled_from(["4p(1-p)", "2min(p,1-p)"]),
        "ddof": st.sampled_from([0, 1]),
        "eps": st.sampled_from([1e-6, 1e-4]),
        "eps_place": st.sampled_from(["add", "max", "sqrt", "where_positive"]),
        "singleton": st.sampled_from(["zero", "raw", "abs", "nan"]),
    }
)


def unzip(rows, dtype=np.float64):
    r, ids, valid, won = zip(*rows, strict=True) if rows else ((), (), (), ())
    return np.array(r, dtype), list(ids), np.array(valid, bool), np.array(won, bool)


def test_hand_checked_vectors(vectors):
    v = vectors("flat")["mapo"]
    assert_allclose(mapo(v["r"], [0] * 4 + [1] * 4), v["adv"], rtol=1e-14)


def test_the_ends_of_the_mixture():
    r, ids = [1.0, 0.0, 1.0, 0.0], [0] * 4
    assert_allclose(mapo(r, ids), rm.group.grpo(r, ids), rtol=1e-14)
    assert_allclose(mapo(r, ids, success=[1, 1, 1, 1]), rm.group.maxrl(r, ids), rtol=1e-14)
    # A format bonus hides every success from the default.
    bonus = [1.1, 0.1, 1.1, 0.1]
    assert_allclose(mapo(bonus, ids), rm.group.maxrl(bonus, ids), rtol=1e-14)
    assert_allclose(mapo(bonus, ids, success=[True, False] * 2), rm.group.grpo(bonus, ids), rtol=1e-14)


@given(ROWS, OPTIONS, st.booleans(), st.booleans(), DTYPES)
def test_the_oracle(oracle, tolerance, rows, options, masked, told, dtype):
    r, ids, valid, won = unzip(rows, dtype)
    options = options | {"valid": valid if masked else None, "success": won if told else None}
    expected = oracle("group/mapo.py", "mapo")(r, ids, **options)
    assert_allclose(mapo(r, ids, **options), expected, **tolerance(dtype.__name__))


@given(ROWS, st.integers(1, 5), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/mapo.py", "mapo")(r, ids, nan=nan)
    assert_allclose(mapo(r, ids, nan=nan), expected, **tolerance("float64"))


@given(ROWS, st.sampled_from([0.25, 2.0, 64.0]))
def test_laws(tolerance, rows, factor):
    r, ids, _, won = unzip(rows)
    base = mapo(r, ids, success=won, eps=0.0)
    assert_allclose(mapo(r * factor, ids, success=won, eps=0.0), base, **tolerance("float64"))
    assert_allclose(rm.ops.segment_sum(base, ids), 0, atol=1e-10)


def test_messages():
    message = (
        r"mapo\(\): 'rewards' must have a positive mean in every group with spread, got -0.5 in the group of row 1"
    )
    with pytest.raises(ValueError, match=message):
        mapo([1.0, 0.0, -1.0], [0, 1, 1])
    with pytest.raises(ValueError, match=r"got 0.0 in the group of row 0; shift them"):
        mapo([1.0, -1.0], [0, 0])
    # Without spread there is nothing to divide.
    assert mapo([-1.0, -1.0, -2.0], [0, 0, 1]).tolist() == [0.0] * 3
    assert mapo([1.0, 0.0, -9.0], [0, 0, 0], valid=[1, 1, 0])[2] == 0.0
    with pytest.raises(ValueError, match=r"mapo\(\): 'certainty' must be one of '4p\(1-p\)', '2min\(p,1-p\)', got 'p'"):
        mapo([1.0], [0], certainty="p")
    with pytest.raises(ValueError, match=r"mapo\(\): 'success' must have length 2 \(= len\(groups\)\), got 1"):
        mapo([1.0, 0.0], [0, 0], success=[True])
    with pytest.raises(TypeError, match=r"mapo\(\): 'success' must be bool or integer \(nonzero = True\), got float64"):
        mapo([1.0, 0.0], [0, 0], success=[1.0, 0.0])
    with pytest.raises(ValueError, match=r"mapo\(\): 'groups' has a group without spread"):
        mapo([1.0, 1.0], [0, 0], zero_spread="raise")
