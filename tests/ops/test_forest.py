"""ops.up and ops.parent against their definitions; bits do not depend on numbering or threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, ops

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
HOWS = ["mean_of_children", "leaf_mean", "sum", "max", "min"]


@given(SIZES, st.sampled_from(HOWS), st.sampled_from([np.float64, np.float32, np.float16]))
def test_against_the_oracle(oracle, tolerance, size, how, dtype):
    parents = oracle("forest.py", "random_parents")(*size)
    forest = Forest.from_parents(parents)
    x = np.random.default_rng(size[0]).normal(3, 2, forest.n_leaves).astype(dtype)
    got = ops.up(forest, x, how=how)
    assert got.dtype == (np.float32 if dtype == np.float16 else dtype)
    expected = oracle("ops/forest.py", "up")(parents, forest.leaves, x, how)
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))
    down = oracle("ops/forest_down.py", "parent")(parents, got, -5.0)
    assert ops.parent(forest, got, root=-5.0).tolist() == down


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert np.round(ops.up(forest, rewards, how="mean_of_children"), 7).tolist() == f1["mean_children"]
    assert np.round(ops.up(forest, rewards, how="leaf_mean"), 7).tolist() == f1["leaf_mean"]
    assert forest.leaf_counts.tolist() == f1["n_leaves"]


@given(SIZES, st.sampled_from(HOWS))
def test_renumbering_changes_no_bit(oracle, same_bits, size, how):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    to = rng.permutation(len(parents))
    turned = np.empty_like(parents)
    turned[to] = np.where(parents < 0, -1, to[parents])
    a, b = Forest.from_parents(parents), Forest.from_parents(turned)
    x = rng.choice([-0.0, 0.0, 0.1, 0.7, -1e-9, 1e9], len(parents))
    y = np.empty_like(x)
    y[to] = x
    same_bits(ops.up(a, x[a.leaves], how=how), ops.up(b, y[b.leaves], how=how)[to])


@pytest.mark.parametrize("how", HOWS)
def test_threads_do_not_matter(how):
    rng = np.random.default_rng(1)
    parents = np.concatenate([np.full(300, -1), rng.integers(0, 300, 3000), rng.integers(0, 3300, 100_000)])
    forest = Forest.from_parents(parents)
    x, before, made = rng.normal(size=forest.n_leaves), rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            value = ops.up(forest, x, how=how)
            made.append((value.tobytes(), ops.parent(forest, value).tobytes()))
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


def test_equal_values_are_their_own_mean():
    forest = Forest.from_parents([-1] + [0] * 7 + [1] * 13)
    for how in ("mean_of_children", "leaf_mean"):
        assert set(ops.up(forest, np.full(19, 0.7), how=how)) == {0.7}


def test_nan_and_infinity_spread_to_ancestors_only():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2])
    for how in HOWS:
        for x in ([np.nan, 1.0, 2.0], [1.0, np.nan, 2.0]):
            got = ops.up(forest, x, how=how)
            assert np.isnan(got[[0, 1]]).all()
            assert got[2] == 2.0
    assert ops.up(forest, [np.inf, 1.0, 2.0], how="leaf_mean")[0] == np.inf


def test_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    for dtype, out in [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)]:
        got = ops.up(forest, torch.tensor([1, 2], dtype=dtype), how="sum")
        assert (got.dtype, got.tolist()) == (out, [3.0, 1.0, 2.0])
        assert ops.parent(forest, got).tolist() == [0.0, 3.0, 3.0]


def test_empty():
    forest = Forest.from_parents([])
    assert ops.up(forest, [], how="sum").shape == (0,)
    assert ops.parent(forest, []).shape == (0,)


def test_a_million_nodes_deep():
    n = 1_000_000
    forest = Forest.from_parents(np.arange(-1, n - 1))
    for how in HOWS:
        assert (ops.up(forest, [0.3], how=how) == 0.3).all()


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(ValueError, match=r"up\(\): 'how' must be one of 'mean_of_children', .*, got 'median'"):
        ops.up(forest, [1.0, 2.0], how="median")
    with pytest.raises(ValueError, match=r"up\(\): 'leaf_values' must have length 2 \(= forest.n_leaves\), got 3"):
        ops.up(forest, [1.0, 2.0, 3.0], how="sum")
    with pytest.raises(ValueError, match=r"parent\(\): 'x' must have length 3 \(= forest.n_nodes\), got 2"):
        ops.parent(forest, [1.0, 2.0])
    with pytest.raises(TypeError, match=r"up\(\): 'forest' must be a rollmath.Forest, got an object of type list"):
        ops.up([-1, 0, 0], [1.0, 2.0], how="sum")
    for root in ("x", None, [0.0], 1j):
        with pytest.raises(TypeError, match=r"parent\(\): 'root' must be a number, got an? "):
            ops.parent(forest, [1.0, 2.0, 3.0], root=root)
    with pytest.raises(TypeError, match=r"'leaf_values' must be 1-D"):
        ops.up(forest, np.zeros((2, 1)), how="sum")
