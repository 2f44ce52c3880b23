"""Nodes to expand: the definition, fixed numbers, uniformity, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest
from rollmath.tree import expansion_nodes

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


@given(SIZES, st.integers(0, 4), st.integers(0, 2**70))
def test_the_definition(oracle, size, n, seed):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    got = expansion_nodes(forest, n=n, seed=seed)
    assert got.shape == (forest.n_trees, n)
    assert got.dtype == np.int64
    assert got.tolist() == oracle("tree/expansion.py", "expansion_nodes")(forest.parents, n=n, seed=seed)


def test_the_same_numbers_everywhere():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, -1, 6])
    assert expansion_nodes(forest, n=6, seed=7).tolist() == [[1, 2, 2, 0, 0, 2], [6, 6, 6, 6, 6, 6]]


def test_uniform_over_inner_nodes():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2])
    drawn = expansion_nodes(forest, n=30_000, seed=0)
    nodes, counts = np.unique(drawn, return_counts=True)
    assert nodes.tolist() == [0, 1, 2]
    assert abs(counts - 10_000).max() < 450  # five standard deviations
    assert expansion_nodes(Forest.from_parents([]), n=2, seed=0).shape == (0, 2)


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0])
    for wrong, error, message in [
        ({"n": -1}, ValueError, "'n' must be at least 0, got -1"),
        ({"n": 1.5}, TypeError, "'n' must be a whole number"),
        ({"seed": -1}, ValueError, "'seed' must be at least 0, got -1"),
        ({"seed": None}, TypeError, "'seed' must be a whole number"),
        ({"forest": None}, TypeError, "'forest' must be a rollmath.Forest"),
    ]:
        with pytest.raises(error, match=r"expansion_nodes\(\): " + message):
            expansion_nodes(**{"forest": forest, "n": 1, "seed": 0, **wrong})
