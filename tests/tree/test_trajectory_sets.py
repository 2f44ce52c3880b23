"""Sets of trajectories: the definition, fixed numbers, uniformity, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath.tree import trajectory_sets

SIZES = st.tuples(st.integers(0, 2**32), st.integers(0, 14))


@given(SIZES, st.integers(1, 4), st.sampled_from([None, 1, 4]), st.integers(0, 3))
def test_sets(oracle, size, members, count, seed):
    states = np.random.default_rng(size[0]).integers(0, 3, size[1])
    seed = None if count is None else seed
    got = trajectory_sets(states, size=members, count=count, seed=seed)
    assert got.dtype == np.int64
    assert got.shape[1] == members
    assert got.tolist() == oracle("tree/trajectory_sets.py", "trajectory_sets")(
        states.tolist(), size=members, count=count, seed=seed
    )


def test_random_sets_are_uniform():
    got = trajectory_sets([0] * 4, size=2, count=6000, seed=3)
    _, counts = np.unique(got, axis=0, return_counts=True)
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 150  # five standard deviations
    assert not np.array_equal(got, trajectory_sets([0] * 4, size=2, count=6000, seed=4))
    # The same numbers everywhere.
    assert trajectory_sets(["a"] * 5 + ["b"], size=3, count=2, seed=11).tolist() == [[0, 3, 4], [1, 2, 4]]


def test_wrong_calls():
    cases = [
        ({"size": 0}, ValueError, "'size' must be at least 1, got 0"),
        ({"count": 2}, ValueError, "'seed' goes with 'count', got count=2 and seed=None"),
        ({"seed": 2}, ValueError, "'seed' goes with 'count', got count=None and seed=2"),
        ({"count": 0, "seed": 1}, ValueError, "'count' must be at least 1, got 0"),
        ({"count": 1, "seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"count": 1, "seed": 1.0}, TypeError, "'seed' must be a whole number"),
        ({"states": 5}, TypeError, "'states' must be a sequence"),
        (
            {"states": [0] * 64, "size": 32},
            ValueError,
            "'size' makes 1832624140942590534 sets, too many to list; choose",
        ),
    ]
    for wrong, error, message in cases:
        with pytest.raises(error, match=r"trajectory_sets\(\): " + message):
            trajectory_sets(**{"states": [0, 0], "size": 1, **wrong})
