"""Polychromic advantages: numbers by hand, set by set, laws, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Ragged
from rollmath.tree import polychromic, polychromic_window, trajectory_sets

SIZES = st.tuples(st.integers(0, 2**32), st.integers(0, 14))


def draw(size):
    rng, n = np.random.default_rng(size[0]), size[1]
    returns = rng.choice([0.0, 1.0] if size[0] % 2 else rng.random(5), n)
    return returns, rng.integers(0, 4, n), rng.integers(0, 3, n)


def test_by_hand():
    returns, signatures = [1.0, 1.0, 0.0, 0.0], ["x", "x", "y", "z"]
    out = polychromic(returns, signatures, trajectory_sets([0] * 4, size=2))
    assert out.scores.tolist() == [0.5, 0.5, 0.5, 0.5, 0.5, 0.0]
    assert out.set_advantages.round(6).tolist() == [0.083333] * 5 + [-0.416667]
    assert out.advantages.round(6).tolist() == [0.083333, 0.083333, -0.083333, -0.083333]


@given(SIZES, st.integers(1, 4), st.sampled_from([None, 3]), st.booleans(), st.sampled_from([np.float64, np.float32]))
def test_against_the_oracle(oracle, tolerance, size, members, count, own, dtype):
    returns, signatures, states = draw(size)
    returns = returns.astype(dtype)
    sets = trajectory_sets(states, size=members, count=count, seed=None if count is None else 5)
    d = np.random.default_rng(1).random(len(sets)) if own else None
    got = polychromic(returns, None if own else signatures, sets, states=states, diversity=d)
    expected = oracle("tree/polychromic.py", "polychromic")(returns, signatures, sets, states=states, diversity=d)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, **tolerance(dtype.__name__))


@given(SIZES, st.integers(1, 4))
def test_laws(same_bits, size, members):
    returns, signatures, states = draw(size)
    sets = trajectory_sets(states, size=members)
    out = polychromic(returns, signatures, sets, states=states)
    if len(sets):
        of = states[sets[:, 0]]
        np.testing.assert_allclose(rm.ops.segment_sum(out.set_advantages, of), 0, atol=1e-12)
    same_bits(polychromic(returns * 4, signatures, sets, states=states).advantages, out.advantages * 4)
    # Trajectories renumbered.
    to = np.random.default_rng(size[0]).permutation(len(returns))
    back = np.argsort(to)
    turned = polychromic(returns[back], signatures[back], to[sets], states=states[back])
    same_bits(turned.advantages[to], out.advantages)
    same_bits(turned.scores, out.scores)
    # Without variety to tell apart, a success is worth its return, and equal returns nothing.
    flat = polychromic(np.full(len(returns), 0.1), np.zeros(len(returns), int), sets, states=states)
    assert not flat.advantages.any()


def test_sets_of_one_state_against_each_other():
    returns, states = [1.0, 0.0, 1.0, 1.0, 5.0], ["a", "a", "b", "b", "c"]
    out = polychromic(returns, [0, 1, 0, 1, 0], [[0], [1], [2], [3]], states=states)
    assert out.set_advantages.tolist() == [0.5, -0.5, 0.0, 0.0]
    # One trajectory is in no set.
    assert out.advantages.tolist() == [0.5, -0.5, 0.0, 0.0, 0.0]
    # With a diversity of one's own.
    assert polychromic(returns, None, [[0], [1]], diversity=[0.5, 1.0]).scores.tolist() == [0.5, 0.0]


@given(st.integers(0, 2**32), st.lists(st.integers(0, 6), max_size=6), st.integers(0, 6))
def test_windows(oracle, seed, lengths, width):
    rng = np.random.default_rng(seed)
    base = Ragged.from_lengths(rng.normal(size=sum(lengths)), lengths)
    a, branch = rng.normal(size=len(lengths)), rng.integers(-1, 7, len(lengths))
    before = base.values.copy()
    got = polychromic_window(base, a, branch, width=width)
    assert got.to_lists() == oracle("tree/polychromic.py", "polychromic_window")(
        base.to_lists(), a.tolist(), branch.tolist(), width=width
    )
    assert np.array_equal(base.values, before)


def test_kinds():
    torch = pytest.importorskip("torch")
    out = polychromic(torch.tensor([1, 0]), torch.tensor([0, 1]), torch.tensor([[0, 1]]))
    assert [x.dtype for x in out] == [torch.float32] * 3
    base = Ragged(torch.zeros(3, dtype=torch.bfloat16), [0, 1, 3])
    got = polychromic_window(base, [1.0, 2.0], [-1, 1])
    assert (got.values.dtype, got.to_lists()) == (torch.float32, [[0.0], [0.0, 2.0]])
    empty = polychromic([], [], np.zeros((0, 4), int))
    assert [len(x) for x in empty] == [0, 0, 0]
    assert polychromic([1.0], [0], np.zeros((0, 2), int)).advantages.tolist() == [0.0]


def test_wrong_calls():
    r, s, sets = [1.0, 0.0, 1.0], [0, 1, 2], [[0, 1], [1, 2]]
    cases = [
        (lambda: polychromic([1.0, math.nan, 0], s, sets), ValueError, "'returns' must be finite, got nan at index 1"),
        (
            lambda: polychromic(r, s[:2], sets),
            ValueError,
            r"'signatures' must have length 3 \(= len\(returns\)\), got 2",
        ),
        (
            lambda: polychromic(r, s, sets, states=[0]),
            ValueError,
            r"'states' must have length 3 \(= len\(returns\)\), got 1",
        ),
        (lambda: polychromic(r, s, sets, states=[0, 0, 1]), ValueError, "members of one state, but set 1 has several"),
        (lambda: polychromic(r, s, [[0, 3]]), ValueError, r"'sets' must hold numbers from 0 to 2 .*, got 3 in set 0"),
        (
            lambda: polychromic(r, s, [[0, 1], [-1, 0]]),
            ValueError,
            "'sets' must hold numbers from 0 to 2 .*-1 in set 1",
        ),
        (
            lambda: polychromic(r, s, [[0, 1], [2, 2]]),
            ValueError,
            "'sets' must have each member once, but set 1 repeats",
        ),
        (lambda: polychromic(r, s, np.zeros((2, 0), int)), ValueError, r"'sets' must have members, got shape \(2, 0\)"),
        (lambda: polychromic(r, s, [0, 1]), TypeError, "'sets' must be a 2-D array of ints, one row a set, got a 1-D"),
        (lambda: polychromic(r, s, [[0.0, 1.0]]), TypeError, "'sets' must be a 2-D array of ints"),
        (
            lambda: polychromic(r, s, sets, diversity=[1, 1]),
            ValueError,
            "say the same thing; give one of them, got both",
        ),
        (lambda: polychromic(r, None, sets), ValueError, "say the same thing; give one of them, got neither"),
        (
            lambda: polychromic(r, None, sets, diversity=[1]),
            ValueError,
            r"'diversity' must have length 2 \(= len\(sets\)\)",
        ),
        (
            lambda: polychromic(r, None, sets, diversity=[1, math.inf]),
            ValueError,
            "'diversity' must be finite, got inf at",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=r"polychromic\(\): .*" + message):
            call()
    base = Ragged.from_lists([[0.0], [0.0, 0.0]])
    cases = [
        (
            lambda: polychromic_window([[0.0]], [1.0], [0]),
            TypeError,
            "'base' must be a rollmath.Ragged, got an object of",
        ),
        (
            lambda: polychromic_window(base, [1.0], [0, 0]),
            ValueError,
            r"'advantages' must have length 2 \(= len\(base\)\)",
        ),
        (
            lambda: polychromic_window(base, [1.0, math.nan], [0, 0]),
            ValueError,
            "'advantages' must be finite, got nan at",
        ),
        (
            lambda: polychromic_window(base, [1.0, 1.0], [0]),
            ValueError,
            r"'branch' must have length 2 \(= len\(base\)\)",
        ),
        (
            lambda: polychromic_window(base, [1.0, 1.0], [0, -2]),
            ValueError,
            r"'branch' must be at least -1 \(none\), got -2",
        ),
        (lambda: polychromic_window(base, [1.0, 1.0], [0, 0.5]), TypeError, "'branch' must hold integers, got float64"),
        (
            lambda: polychromic_window(base, [1.0, 1.0], [0, 0], width=-1),
            ValueError,
            "'width' must be at least 0, got -1",
        ),
        (
            lambda: polychromic_window(Ragged(np.array(["a"]), [0, 1]), [1.0], [0]),
            TypeError,
            "'base' must hold floats, ints or bools, got <U1",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=r"polychromic_window\(\): " + message):
            call()
