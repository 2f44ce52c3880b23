"""TempSamp-R1's soft reward and its anchored advantage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

soft, anchor = rm.group.tempsamp_reward, rm.group.tempsamp_anchor
ROWS = st.lists(st.tuples(st.integers(-64, 64), st.integers(0, 3), st.booleans(), st.booleans()), max_size=24)


def unzip(rows):
    a, ids, off, valid = zip(*rows, strict=True) if rows else ((),) * 4
    return np.array(a, dtype=float) / 16, list(ids), np.array(off, dtype=bool), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["tempsamp"]
    assert_allclose(soft(v["r"]), v["out"], atol=1e-15)
    assert soft([0.8]).tolist() == [0.8]
    assert anchor([1.0, -1.0, 9.0, 9.0], [0, 0, 0, 1], [0, 0, 1, 1], factor=1.5).tolist() == [1.0, -1.0, 1.5, 0.0]
    assert anchor([np.nan, 0.5], [0, 0], [1, 0]).tolist() == [0.6, 0.5]


@given(
    st.lists(st.floats(0, 1, width=32), max_size=20),
    st.sampled_from([0.8, 0.5, 0.0, 1.0]),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([0.5, 1.0, 3.0]),
)
def test_the_oracle(oracle, tolerance, r, tau, alpha1, alpha2):
    options = {"tau": tau, "alpha1": alpha1, "alpha2": alpha2}
    expected = oracle("group/reward_tempsamp.py", "tempsamp_reward")(r, **options)
    assert_allclose(soft(np.array(r), **options), expected, **tolerance("float64"))


@given(ROWS, st.booleans(), st.sampled_from([1.2, 1.0, 0.0]))
def test_the_oracle_of_the_anchor(oracle, tolerance, rows, masked, factor):
    a, ids, off, valid = unzip(rows)
    options = {"factor": factor, "valid": valid if masked else None}
    expected = oracle("group/reward_tempsamp.py", "tempsamp_anchor")(a, ids, off, **options)
    assert_allclose(anchor(a, ids, off, **options), expected, **tolerance("float64"))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
def test_the_order_of_rewards_is_kept(r):
    r = np.sort(r)
    assert (np.diff(soft(r)) >= 0).all()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: soft([np.nan]), ValueError, r"tempsamp_reward\(\): 'rewards' must be finite"),
        (lambda: soft([[1.0]]), TypeError, "'rewards' must be 1-D"),
        (lambda: soft([1.0], tau=np.inf), ValueError, "'tau' must be finite, got inf"),
        (lambda: soft([1.0], alpha1=-1), ValueError, "'alpha1' must be finite and not negative"),
        (lambda: soft([1.0], alpha2=0), ValueError, "'alpha2' must be finite and positive"),
        (lambda: soft([1.0], alpha2=False), TypeError, "'alpha2' must be a number, got False"),
        (lambda: soft([-1000.0]), ValueError, "'alpha2' = 1.0 takes the reward -1000.0 past float64"),
        (lambda: anchor([1.0], [0], None), TypeError, "'off_policy' must be bool or integer, one a row, got None"),
        (lambda: anchor([1.0], [0], [0.5]), TypeError, "'off_policy' must be bool or integer"),
        (lambda: anchor([1.0], [0], [1, 0]), ValueError, "'off_policy' must have length 1"),
        (lambda: anchor([np.nan], [0], [0]), ValueError, r"tempsamp_anchor\(\): 'advantages' must be finite"),
        (lambda: anchor([1.0], [0], [0], factor=np.nan), ValueError, "'factor' must be finite, got nan"),
        (lambda: anchor([1.0], [0], [0], valid=[0.5]), TypeError, "'valid' must be bool or integer"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
