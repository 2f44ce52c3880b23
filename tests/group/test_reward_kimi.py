"""The length reward of Kimi k1.5."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

kimi = rm.group.kimi_length_reward
ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, -1.0]), st.integers(0, 3), st.integers(0, 900), st.booleans(), st.booleans()),
    max_size=24,
)


def unzip(rows):
    r, ids, lengths, right, valid = zip(*rows, strict=True) if rows else ((),) * 5
    return (
        np.array(r, dtype=float),
        list(ids),
        np.array(lengths, np.int64),
        np.array(right, bool),
        np.array(valid, bool),
    )


def test_by_hand(vectors):
    v = vectors("flat")["kimi_len"]
    assert_allclose(kimi(np.zeros(3), [0, 0, 0], v["L"], correct=v["correct"]), v["rew"], atol=1e-15)
    # A wrong rollout is not paid for being the shortest; a group of one and equal lengths give nothing.
    assert kimi([0, 1, 1, 1, 1], [0, 0, 1, 2, 2], [10, 20, 5, 7, 7]).tolist() == [0.0, -0.5, 0.0, 0.0, 0.0]


@given(ROWS, st.booleans(), st.booleans(), st.sampled_from([1.0, 0.25, 0.0]))
def test_the_oracle(oracle, tolerance, rows, masked, given_right, weight):
    r, ids, lengths, right, valid = unzip(rows)
    options = {"valid": valid if masked else None, "correct": right if given_right else None, "weight": weight}
    expected = oracle("group/reward_kimi.py", "kimi_length_reward")(r, ids, lengths, **options)
    assert_allclose(kimi(r, ids, lengths, **options), expected, **tolerance("float64"))


@given(ROWS, st.integers(1, 50), st.sampled_from([2, 4, 8]))
def test_lengths_may_be_shifted_and_scaled(tolerance, rows, shift, scale):
    r, ids, lengths, _, _ = unzip(rows)
    assert_allclose(kimi(r, ids, scale * lengths + shift), kimi(r, ids, lengths), **tolerance("float64"))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: kimi([1.0], ["a", "b"], [1, 2]), ValueError, r"kimi_length_reward\(\): 'rewards' must have length 2"),
        (lambda: kimi([1.0], ["a"], [1, 2]), ValueError, "'lengths' must have length 1"),
        (lambda: kimi([1.0], ["a"], [np.inf]), ValueError, "'lengths' must be finite and not negative .* got inf"),
        (lambda: kimi([np.inf], ["a"], [1]), ValueError, "'rewards' must be finite where rows are valid, got inf"),
        (lambda: kimi([1.0], ["a"], [1], weight=-1), ValueError, "'weight' must be finite and not negative, got -1"),
        (lambda: kimi([1.0], ["a"], [1], weight="1"), TypeError, "'weight' must be a number"),
        (lambda: kimi([1.0], ["a"], [1], weight=True), TypeError, "'weight' must be a number, got True"),
        (lambda: kimi([1.0], ["a"], [1], correct=[1.0]), TypeError, "'correct' must be bool or integer"),
        (lambda: kimi([1.0], ["a"], [1], valid=[1.0]), TypeError, "'valid' must be bool or integer"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
