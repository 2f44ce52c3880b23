"""HBPO's reward and advantage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

reward, hbpo = rm.group.hbpo_reward, rm.group.hbpo
REWARDS = st.sampled_from([0.0, 1.0, 3.5, -0.25])
ROWS = st.lists(
    st.tuples(REWARDS, st.integers(0, 3), st.integers(0, 300), st.sampled_from([64, 128, 256]), st.booleans()),
    max_size=24,
)


def unzip(rows):
    r, ids, lengths, budgets, flags = zip(*rows, strict=True) if rows else ((),) * 5
    whole = [np.array(x, dtype=np.int64) for x in (lengths, budgets)]
    return np.array(r, dtype=float), list(ids), *whole, np.array(flags, dtype=bool)


def test_by_hand(vectors):
    v = vectors("flat")["hbpo"]
    got = reward([1, 1, 1], v["n"], v["b"], max_length=4096, alpha=1e-4, beta=1.0)
    assert_allclose(got, v["r"], atol=1e-15)
    # Wrong, and longer than the limit; a budget that is the limit is worth exactly 0.
    assert reward([0, 1, 1], [10, 4097, 4096], [512, 512, 4096], max_length=4096).tolist() == [0, 0, 0]
    # At n = b - 112 the cosine has not grown by what the distance costs.
    flat, capped = (reward([1], [400], [512], max_length=4096, within=w)[0] for w in ("flat", "capped"))
    assert flat == pytest.approx(4 * np.cos(np.pi * 512 / 8192))
    assert capped == pytest.approx(min(flat, 4 * np.cos(np.pi * 400 / 8192) - 112 / 4096))


@given(ROWS, st.sampled_from(["flat", "capped"]), st.booleans(), st.sampled_from([0.0, 1 / 64]))
def test_the_oracle_of_the_reward(oracle, tolerance, rows, within, given_right, alpha):
    r, _, lengths, budgets, flags = unzip(rows)
    options = {"max_length": 256, "within": within, "correct": flags if given_right else None, "alpha": alpha}
    expected = oracle("group/reward_hbpo.py", "hbpo_reward")(r, lengths, budgets, **options)
    assert_allclose(reward(r, lengths, budgets, **options), expected, **tolerance("float64"))


@given(ROWS, st.booleans(), st.sampled_from([1.0, 2.0, 0.0]), st.sampled_from([0, 1]), st.sampled_from([1e-6, 0.1]))
def test_the_oracle_of_the_advantage(oracle, tolerance, rows, masked, intra, ddof, eps):
    r, ids, _, budgets, flags = unzip(rows)
    options = {"max_length": 256, "intra": intra, "valid": flags if masked else None, "ddof": ddof, "eps": eps}
    expected = oracle("group/reward_hbpo.py", "hbpo")(r, ids, budgets, **options)
    assert_allclose(hbpo(r, ids, budgets, **options), expected, **tolerance("float64"))


@given(ROWS, st.integers(1, 4), st.sampled_from(["omit", "propagate"]))
def test_the_oracle_with_nan(oracle, tolerance, rows, every, nan):
    r, ids, _, budgets, _ = unzip(rows)
    r[::every] = np.nan
    expected = oracle("group/reward_hbpo.py", "hbpo")(r, ids, budgets, max_length=256, nan=nan)
    assert_allclose(hbpo(r, ids, budgets, max_length=256, nan=nan), expected, **tolerance("float64"))


@given(ROWS)
def test_without_the_first_part_it_is_grpo(same_bits, rows):
    r, ids, _, budgets, _ = unzip(rows)
    same_bits(hbpo(r, ids, budgets, max_length=256, intra=0.0) + 0.0, rm.group.grpo(r, ids) + 0.0)


def test_whole_floats_are_lengths_too(same_bits):
    whole = reward([1, 1], [100, 200], [128, 64], max_length=256)
    same_bits(reward([1, 1], [100.0, 200.0], np.float32([128, 64]), max_length=256), whole)
    same_bits(hbpo(whole, [0, 0], [128.0, 64.0], max_length=256), hbpo(whole, [0, 0], [128, 64], max_length=256))


def test_a_budget_met_by_all_has_no_advantage():
    full = reward([1] * 4, [10, 20, 30, 40], [64, 64, 64, 64], max_length=256)
    assert hbpo(full, [0] * 4, [64] * 4, max_length=256).tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda: reward([1], [1, 2], [1], max_length=9),
            ValueError,
            r"'lengths' must have length 1 \(= len\(rewards\)",
        ),
        (lambda: reward([1], [1.5], [1], max_length=9), ValueError, "'lengths' must be whole numbers .* got 1.5"),
        (
            lambda: reward([1], [-1], [1], max_length=9),
            ValueError,
            "'lengths' must be whole numbers of at least 0, got -1",
        ),
        (lambda: reward([1], [1], [10], max_length=9), ValueError, r"'budgets' must be from 1 to 9 \(= max_length\)"),
        (
            lambda: reward([1], [1], [0], max_length=9),
            ValueError,
            "'budgets' must be whole numbers of at least 1, got 0",
        ),
        (lambda: reward([1], [1], [1], max_length=0), ValueError, "'max_length' must be finite and positive"),
        (lambda: reward([1], [1], [1], max_length=9, alpha=-1), ValueError, "'alpha' must be finite and not negative"),
        (lambda: reward([1], [1], [1], max_length=9, beta=0), ValueError, "'beta' must be finite and positive"),
        (
            lambda: reward([1], [1], [1], max_length=9, within="x"),
            ValueError,
            "'within' must be one of 'flat', 'capped'",
        ),
        (lambda: reward([np.nan], [1], [1], max_length=9), ValueError, "'rewards' must be finite"),
        (lambda: reward([1], [1], [1], max_length=9, correct=[0.5]), TypeError, "'correct' must be bool or integer"),
        (lambda: hbpo([np.nan], [0], [1], max_length=9), ValueError, r"hbpo\(\): 'rewards'"),
        (lambda: hbpo([1], [0], [1, 2], max_length=9), ValueError, r"'budgets' must have length 1 \(= len\(groups\)\)"),
        (lambda: hbpo([1], [0], [1], max_length=9, intra=np.inf), ValueError, "'intra' must be finite, got inf"),
        (lambda: hbpo([1], [0], [1], max_length=9, convention=rm.conventions.TRL), ValueError, "hbpo"),
        (lambda: hbpo([1], [0], [1], max_length=9, ddof=2), ValueError, "'ddof' must be"),
    ],
)
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
