"""ops.backup against the oracle, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest, ops

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 50))


@given(SIZES, st.sampled_from(["max", "mean"]), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans())
def test_against_the_oracle(oracle, tolerance, size, how, gamma, single):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    x = rng.normal(size=len(parents)).astype(np.float32 if single else np.float64)
    x[rng.random(len(x)) < 0.05] = np.nan
    got = ops.backup(Forest.from_parents(parents), x, gamma=gamma, how=how)
    assert got.dtype == x.dtype
    expected = oracle("ops/backup.py", "backup")(parents, x, gamma, how)
    np.testing.assert_allclose(got, expected, **tolerance(x.dtype.name))


@given(SIZES, st.sampled_from(["max", "mean"]))
def test_renumbering_changes_no_bit(oracle, size, how):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    x, turn = rng.normal(size=len(parents)), rng.permutation(len(parents))
    turned = np.empty_like(parents)
    turned[turn] = np.where(parents < 0, -1, turn[parents])
    moved = np.empty_like(x)
    moved[turn] = x
    base = ops.backup(Forest.from_parents(parents), x, gamma=0.9, how=how)
    assert ops.backup(Forest.from_parents(turned), moved, gamma=0.9, how=how)[turn].tolist() == base.tolist()


def test_a_chain_of_a_million_nodes():
    n = 1_000_000
    got = ops.backup(Forest.from_parents(np.arange(-1, n - 1)), np.ones(n), gamma=1.0)
    assert got[0] == n
    assert got[-1] == 1.0


def test_errors():
    forest = Forest.from_parents([-1, 0])
    with pytest.raises(ValueError, match=r"backup\(\): 'x' must have length 2 \(= forest.n_nodes\), got 1"):
        ops.backup(forest, [1.0], gamma=0.9)
    with pytest.raises(ValueError, match=r"backup\(\): 'gamma' must be"):
        ops.backup(forest, [1.0, 2.0], gamma=1.5)
    with pytest.raises(ValueError, match=r"backup\(\): 'how' must be one of 'max', 'mean', got 'min'"):
        ops.backup(forest, [1.0, 2.0], gamma=0.9, how="min")
    with pytest.raises(TypeError, match=r"backup\(\): 'forest' must be a rollmath.Forest"):
        ops.backup([0], [1.0], gamma=0.9)
