"""ops.down, ops.parent and ops.root against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, ops

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
HOWS = ["sum", "mean", "max", "min", "last"]
F1 = [-1, 0, 0, 0, 1, 1, 2, 2, 2]


@given(SIZES, st.sampled_from(HOWS), st.sampled_from([np.float64, np.float32, np.float16]), st.booleans())
def test_against_the_oracle(oracle, tolerance, size, how, dtype, holes):
    parents = oracle("forest.py", "random_parents")(*size)
    forest, rng = Forest.from_parents(parents), np.random.default_rng(size[0])
    x = rng.normal(3, 2, len(parents)).astype(dtype)
    if holes:
        x[rng.random(len(parents)) < 0.3] = np.nan
    got = ops.down(forest, x, how=how)
    assert got.dtype == (np.float32 if dtype == np.float16 else dtype)
    np.testing.assert_allclose(got, oracle("ops/forest_down.py", "down")(parents, x, how), **tolerance(got.dtype))
    wide = x.astype(got.dtype)
    assert_same(ops.parent(forest, x, root=-5.0), oracle("ops/forest_down.py", "parent")(parents, wide, -5.0))
    assert_same(ops.root(forest, x), oracle("ops/forest_down.py", "root")(parents, wide))
    assert_same(ops.root(forest, x), wide[forest.roots[forest.tree]])


@given(SIZES, st.sampled_from(["sum", "mean"]), st.sampled_from([np.float64, np.float32]))
def test_weights_against_the_oracle(oracle, tolerance, size, how, dtype):
    parents = oracle("forest.py", "random_parents")(*size)
    forest, rng = Forest.from_parents(parents), np.random.default_rng(size[0])
    x = rng.normal(3, 2, len(parents)).astype(dtype)
    weights = rng.choice([0.0, 0.25, 1.0, 3.0], len(parents))
    x[(weights == 0) & (rng.random(len(parents)) < 0.5)] = np.nan
    got = ops.down(forest, x, how=how, weights=weights)
    expected = oracle("ops/forest_down.py", "down")(parents, x, how, weights)
    np.testing.assert_allclose(got, expected, **tolerance(np.dtype(dtype).name))
    ones = ops.down(forest, np.nan_to_num(x), how=how, weights=np.ones(len(parents)))
    assert_same(ones, ops.down(forest, np.nan_to_num(x), how=how))
    level = ops.down(forest, np.full(len(parents), 0.7, dtype), how="mean", weights=weights)
    assert np.isin(level[~np.isnan(level)], [np.dtype(dtype).type(0.7)]).all()


def test_weights_that_are_wrong():
    forest = Forest.from_parents(F1)
    with pytest.raises(ValueError, match=r"down\(\): 'weights' go with how='sum' or 'mean', got how='max'"):
        ops.down(forest, np.ones(9), how="max", weights=np.ones(9))
    with pytest.raises(ValueError, match=r"down\(\): 'weights' must have length 9 \(= forest.n_nodes\), got 8"):
        ops.down(forest, np.ones(9), how="sum", weights=np.ones(8))
    with pytest.raises(ValueError, match=r"down\(\): 'weights' must be finite and not negative, got -1.* at index 0"):
        ops.down(forest, np.ones(9), how="sum", weights=-np.ones(9))


def assert_same(a, b):
    assert np.array_equal(a, np.asarray(b), equal_nan=True)


def test_by_hand():
    forest, nan = Forest.from_parents(F1), np.nan
    x = [1.0, 2.0, nan, 0.5, -1.0, 2.0, nan, 4.0, 0.0]
    assert ops.down(forest, x, how="last").tolist() == [1.0, 2.0, 1.0, 0.5, -1.0, 2.0, 1.0, 4.0, 0.0]
    assert_same(ops.down(forest, x, how="sum"), [1.0, 3.0, nan, 1.5, 2.0, 5.0, nan, nan, nan])
    assert_same(ops.down(forest, x, how="mean"), [1.0, 1.5, nan, 0.75, 2 / 3, 5 / 3, nan, nan, nan])
    assert_same(ops.down(forest, x, how="max"), [1.0, 2.0, nan, 1.0, 2.0, 2.0, nan, nan, nan])
    assert_same(ops.down(forest, x, how="min"), [1.0, 1.0, nan, 0.5, -1.0, 1.0, nan, nan, nan])
    assert_same(ops.down(forest, [nan, *x[1:]], how="last")[[0, 2, 6]], [nan, nan, nan])


@given(SIZES)
def test_differences_along_a_path_telescope(oracle, tolerance, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    value = np.random.default_rng(size[0]).normal(size=forest.n_nodes)
    edges = value - ops.parent(forest, value)
    np.testing.assert_allclose(ops.down(forest, edges, how="sum"), value, **tolerance(value.dtype))
    assert (ops.down(forest, forest.depth, how="max") == forest.depth).all()
    assert (ops.down(forest, np.ones(forest.n_nodes), how="sum") == forest.depth + 1).all()


@given(SIZES, st.sampled_from(HOWS))
def test_renumbering_changes_no_bit(oracle, same_bits, size, how):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    to = rng.permutation(len(parents))
    turned = np.empty_like(parents)
    turned[to] = np.where(parents < 0, -1, to[parents])
    x = rng.choice([-0.0, 0.0, 0.1, 0.7, -1e-9, 1e9, np.nan], len(parents))
    y = np.empty_like(x)
    y[to] = x
    a, b = Forest.from_parents(parents), Forest.from_parents(turned)
    same_bits(ops.down(a, x, how=how), ops.down(b, y, how=how)[to])
    same_bits(ops.root(a, x), ops.root(b, y)[to])


@pytest.mark.parametrize("mixed", [False, True])
def test_threads_do_not_matter(mixed):
    rng = np.random.default_rng(1)
    parents = np.concatenate([np.full(300, -1), rng.integers(0, 300, 3000), rng.integers(0, 3300, 100_000)])
    if not mixed:
        # In depth-first order each tree is one run of ids.
        forest = Forest.from_parents(parents)
        rank = np.argsort(forest.order)
        parents = np.where(parents < 0, -1, rank[parents])[forest.order]
    forest, x = Forest.from_parents(parents), rng.normal(size=len(parents))
    before, made = rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            passes = [*(ops.down(forest, x, how=how) for how in HOWS), ops.parent(forest, x), ops.root(forest, x)]
            made.append([out.tobytes() for out in passes])
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


def test_a_million_nodes_deep():
    n = 1_000_000
    forest = Forest.from_parents(np.arange(-1, n - 1))
    x = np.full(n, 0.7)
    for how in ("mean", "max", "min", "last"):
        assert (ops.down(forest, x, how=how) == 0.7).all()
    assert np.isclose(ops.down(forest, x, how="sum")[-1], 0.7 * n)
    assert (ops.root(forest, np.arange(n) + 3.0) == 3.0).all()


def test_infinity_follows_ieee():
    chain = Forest.from_parents([-1, 0, 1])
    assert_same(ops.down(chain, [1.0, np.inf, -np.inf], how="sum"), [1.0, np.inf, np.nan])
    assert_same(ops.down(chain, [np.inf, np.inf, 1.0], how="mean"), [np.inf, np.inf, np.inf])


def test_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    for dtype, out in [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)]:
        x = torch.tensor([3, 1, 2], dtype=dtype)
        for got, expected in [
            (ops.down(forest, x, how="sum"), [3.0, 4.0, 5.0]),
            (ops.parent(forest, x), [0.0, 3.0, 3.0]),
            (ops.root(forest, x), [3.0, 3.0, 3.0]),
        ]:
            assert (got.dtype, got.tolist()) == (out, expected)
    for call in (lambda x: ops.down(forest, x, how="sum"), lambda x: ops.root(forest, x)):
        with pytest.raises(ValueError, match=r"'x' requires grad"):
            call(torch.ones(3, requires_grad=True))


def test_empty():
    forest = Forest.from_parents([])
    for how in HOWS:
        assert ops.down(forest, [], how=how).shape == (0,)
    assert ops.parent(forest, []).shape == ops.root(forest, []).shape == (0,)


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(
        ValueError, match=r"down\(\): 'how' must be one of 'sum', 'mean', 'max', 'min', 'last', got 'any'"
    ):
        ops.down(forest, [1.0, 2.0, 3.0], how="any")
    calls = {"down": lambda f, x: ops.down(f, x, how="sum"), "parent": ops.parent, "root": ops.root}
    for who, call in calls.items():
        with pytest.raises(ValueError, match=rf"{who}\(\): 'x' must have length 3 \(= forest.n_nodes\), got 2"):
            call(forest, [1.0, 2.0])
        with pytest.raises(
            TypeError, match=rf"{who}\(\): 'forest' must be a rollmath.Forest, got an object of type list"
        ):
            call([-1, 0, 0], [1.0, 2.0, 3.0])
        with pytest.raises(TypeError, match=rf"{who}\(\): 'x' must be 1-D"):
            call(forest, np.zeros((3, 1)))
    for root in ("x", None, [0.0], 1j):
        with pytest.raises(TypeError, match=r"parent\(\): 'root' must be a number, got an? "):
            ops.parent(forest, [1.0, 2.0, 3.0], root=root)
