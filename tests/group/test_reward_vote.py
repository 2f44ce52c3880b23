"""Rewards by vote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

vote, majority = rm.group.vote_reward, rm.group.majority_reward
ROWS = st.lists(st.tuples(st.sampled_from("xyzu"), st.integers(0, 3), st.booleans()), max_size=24)


def unzip(rows):
    answers, ids, valid = zip(*rows, strict=True) if rows else ((),) * 3
    return list(answers), list(ids), np.array(valid, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["ttrv"]
    ids = [0] * 5
    assert_allclose(vote(v["ans"], ids, alpha=0.0), v["freq"], atol=1e-15)
    assert_allclose(vote(v["ans"], ids), v["r"], atol=1e-15)
    assert_allclose(vote(v["ans"], ids, normalized=True), np.array(v["freq"]) - 0.75 * v["H"] / np.log(3))
    assert majority(v["ans"], ids).tolist() == [1, 1, 0, 1, 0]
    tied = ["y", "x", "x", "y", "z"]
    assert majority(tied, ids).tolist() == [0.5, 0.5, 0.5, 0.5, 0]
    assert majority(tied, ids, ties="first").tolist() == [1, 0, 0, 1, 0]
    assert majority(tied, ids, ties="none").tolist() == [0] * 5
    assert (vote(["x"], [0]).tolist(), majority(["x"], [0]).tolist()) == ([1], [1])


@given(ROWS, st.booleans(), st.booleans(), st.sampled_from([0.75, 0.0, -1.0]))
def test_the_oracle(oracle, tolerance, rows, masked, normalized, alpha):
    answers, ids, valid = unzip(rows)
    options = {"valid": valid if masked else None, "alpha": alpha, "normalized": normalized}
    expected = oracle("group/reward_vote.py", "vote_reward")(answers, ids, **options)
    assert_allclose(vote(answers, ids, **options), expected, **tolerance("float64"))


@given(ROWS, st.booleans(), st.sampled_from(["split", "first", "none"]))
def test_the_oracle_of_the_majority(oracle, rows, masked, ties):
    answers, ids, valid = unzip(rows)
    options = {"valid": valid if masked else None, "ties": ties}
    expected = oracle("group/reward_vote.py", "majority_reward")(answers, ids, **options)
    assert_allclose(majority(answers, ids, **options), expected, rtol=0, atol=0)


@given(ROWS)
def test_the_entropy_cancels_against_the_mean_of_the_group(tolerance, rows):
    answers, ids, _ = unzip(rows)
    with_it, without = (rm.group.grpo(vote(answers, ids, alpha=a), ids, scale="none") for a in (0.75, 0.0))
    assert_allclose(with_it, without, **tolerance("float64"))


@given(ROWS)
def test_names_of_answers_do_not_matter(same_bits, rows):
    answers, ids, _ = unzip(rows)
    other = [{"x": 7, "y": 1, "z": 2, "u": 9}[a] for a in answers]
    same_bits(vote(answers, ids), vote(other, ids))
    same_bits(majority(answers, ids), majority(rm.Groups(answers), rm.Groups(ids)))


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: vote(["x"], [0, 1]), ValueError, r"vote_reward\(\): 'answers' must have length 2"),
        (lambda: vote([None], [0]), TypeError, "'answers' must be strings, ints, UUIDs or tuples, got NoneType"),
        (lambda: vote([0.5], [0]), TypeError, "'answers' must be strings, ints, UUIDs or tuples, got float"),
        (lambda: vote(["x"], [0], alpha=np.nan), ValueError, "'alpha' must be finite, got nan"),
        (lambda: vote(["x"], [0], alpha=True), TypeError, "'alpha' must be a number, got True"),
        (lambda: vote(["x"], [0], normalized=1), TypeError, "'normalized' must be True or False, got 1"),
        (lambda: vote(["x"], [0], valid=[0.5]), TypeError, "'valid' must be bool or integer"),
        (lambda: majority(["x"], [0, 1]), ValueError, r"majority_reward\(\): 'answers' must have length 2"),
        (lambda: majority(["x"], [0], ties="last"), ValueError, "'ties' must be one of 'split', 'first', 'none'"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
