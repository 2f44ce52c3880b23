"""ops.leaf_stat against lists of the leaves below each node."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, ops

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
F1 = [-1, 0, 0, 0, 1, 1, 2, 2, 2]
HOWS = [
    {"how": "mean"},
    *({"how": how, "ddof": ddof} for how in ("var", "std") for ddof in (0, 1)),
    *({"how": "quantile", "q": q} for q in (0.0, 0.3, 0.5, 0.9, 1.0)),
    *({"how": "top_mean", "k": k} for k in (1, 2, 5, 10**30)),
]


def parameter(how):
    return min(how.get("ddof", how.get("q", how.get("k", 0))), 10**6)


def comb(n):
    """A chain of ``n`` nodes each of which has a leaf, too."""
    chain = np.arange(0, 2 * n, 2)
    parents = np.empty(2 * n, dtype=np.int64)
    parents[chain] = chain - 2
    parents[chain + 1] = chain
    parents[0] = -1
    return parents


@given(SIZES, st.sampled_from(HOWS), st.sampled_from([np.float64, np.float32, np.float16]), st.booleans())
def test_against_the_oracle(oracle, tolerance, size, how, dtype, holes):
    parents = oracle("forest.py", "random_parents")(*size)
    forest, rng = Forest.from_parents(parents), np.random.default_rng(size[0])
    x = rng.normal(3, 2, forest.n_leaves).astype(dtype)
    if holes:
        x[rng.random(len(x)) < 0.1] = np.nan
    got = ops.leaf_stat(forest, x, **how)
    assert got.dtype == (np.float32 if dtype == np.float16 else dtype)
    expected = oracle("ops/leaf_stat.py", "leaf_stat")(parents, forest.leaves, x, how["how"], parameter(how))
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("n", [40, 900])
def test_deep_trees(oracle, tolerance, how, n):
    """Past some depth another algorithm takes quantiles and top means; shallow and deep trees side by side."""
    rng = np.random.default_rng(n)
    parents = comb(n)
    if n > 100:
        parents = np.concatenate([parents, np.where(parents < 0, -1, parents + 2 * n), [-1, 4 * n, 4 * n]])
    forest = Forest.from_parents(parents)
    x = rng.choice([0.0, 1.0, 0.5, -3.0, 7.25], forest.n_leaves)
    if n > 100:
        x[1500] = np.nan
    expected = oracle("ops/leaf_stat.py", "leaf_stat")(parents, forest.leaves, x, how["how"], parameter(how))
    np.testing.assert_allclose(ops.leaf_stat(forest, x, **how), expected, **tolerance("float64"))


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert np.round(ops.leaf_stat(forest, rewards, how="mean"), 7).tolist() == f1["leaf_mean"]
    assert ops.leaf_stat(forest, rewards, how="var")[:4].tolist() == [0.25, 0.25, pytest.approx(2 / 9), 0.0]
    assert ops.leaf_stat(forest, rewards, how="var", ddof=1)[:3].tolist() == pytest.approx([0.3, 0.5, 1 / 3])
    assert np.isnan(ops.leaf_stat(forest, rewards, how="std", ddof=1)[3:]).all()
    assert ops.leaf_stat(forest, rewards, how="quantile", q=0.5)[:4].tolist() == [0.5, 0.5, 1.0, 0.0]
    assert ops.leaf_stat(forest, rewards, how="top_mean", k=4)[:4].tolist() == [0.75, 0.5, 2 / 3, 0.0]


@given(SIZES)
def test_it_agrees_with_groups_of_leaves(oracle, tolerance, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    x = np.random.default_rng(size[0]).normal(size=forest.n_leaves)
    trees = forest.rollout_trees
    at_roots = forest.roots[np.array(trees.ids, dtype=np.int64)]
    for got, expected in [
        (ops.leaf_stat(forest, x, how="var", ddof=1), ops.segment_var(x, trees, ddof=1)),
        (ops.leaf_stat(forest, x, how="quantile", q=0.25), ops.segment_quantile(x, trees, 0.25)),
        (ops.leaf_stat(forest, x, how="top_mean", k=10**6), ops.segment_mean(x, trees)),
    ]:
        np.testing.assert_allclose(got[at_roots], expected, **tolerance("float64"))
    assert (ops.leaf_stat(forest, x, how="quantile", q=1) == ops.up(forest, x, how="max")).all()
    assert (ops.leaf_stat(forest, x, how="top_mean", k=1) == ops.up(forest, x, how="max")).all()
    assert (ops.leaf_stat(forest, x, how="mean") == ops.up(forest, x, how="leaf_mean")).all()


@given(SIZES, st.sampled_from(HOWS), st.booleans())
def test_renumbering_changes_no_bit(oracle, same_bits, size, how, deep):
    parents = comb(300) if deep else oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    to = rng.permutation(len(parents))
    turned = np.empty_like(parents)
    turned[to] = np.where(parents < 0, -1, to[parents])
    x = rng.choice([-0.0, 0.0, 0.1, 0.7, -1e-9, 1e9], len(parents))
    y = np.empty_like(x)
    y[to] = x
    a, b = Forest.from_parents(parents), Forest.from_parents(turned)
    same_bits(ops.leaf_stat(a, x[a.leaves], **how), ops.leaf_stat(b, y[b.leaves], **how)[to])


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_threads_do_not_matter(how):
    rng = np.random.default_rng(1)
    parents = np.concatenate([np.full(300, -1), rng.integers(0, 300, 3000), rng.integers(0, 3300, 100_000)])
    forest = Forest.from_parents(parents)
    x, before, made = rng.normal(size=forest.n_leaves), rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            made.append(ops.leaf_stat(forest, x, **how).tobytes())
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


def test_equal_leaves_have_no_spread():
    rng = np.random.default_rng(0)
    parents = np.array([-1] + [int(rng.integers(0, v)) for v in range(1, 300)])
    forest = Forest.from_parents(parents)
    for value in (0.7, 1e300, -1e-310, np.inf):
        x = np.full(forest.n_leaves, value)
        assert not ops.leaf_stat(forest, x, how="var").any()
        for how in [{"how": "mean"}, {"how": "quantile", "q": 0.37}, {"how": "top_mean", "k": 7}]:
            assert set(ops.leaf_stat(forest, x, **how)) == {value}


@given(SIZES, st.sampled_from([0.0, 1e6, -1e9]))
def test_variance_has_no_cancellation(oracle, size, shift):
    """The squares of the shift would bury what the leaves differ by."""
    parents = oracle("forest.py", "random_parents")(*size)
    forest = Forest.from_parents(parents)
    x = np.random.default_rng(size[0]).integers(0, 5, forest.n_leaves) * 0.25
    plain, moved = (ops.leaf_stat(forest, y, how="var") for y in (x, x + shift))
    np.testing.assert_allclose(moved, plain, rtol=1e-6, atol=1e-12)
    assert ((plain == 0) == (ops.up(forest, x, how="max") == ops.up(forest, x, how="min"))).all()


@pytest.mark.parametrize("first", [True, False])
def test_a_million_nodes_deep(first):
    n = 500_000
    parents = comb(n)
    if not first:
        # The leaf of each node gets the greater id, the chain the smaller one.
        parents = np.concatenate([np.arange(-1, n - 1), np.arange(n)])
    forest = Forest.from_parents(parents)
    x = np.random.default_rng(0).integers(0, 1000, n) / 8
    assert ops.leaf_stat(forest, x, how="quantile", q=0.5)[0] == np.quantile(x, 0.5)
    assert np.isclose(ops.leaf_stat(forest, x, how="top_mean", k=1000)[0], np.sort(x)[-1000:].mean(), rtol=1e-13)
    assert np.isclose(ops.leaf_stat(forest, x, how="var", ddof=1)[0], x.var(ddof=1), rtol=1e-11)


def test_infinity():
    star = Forest.from_parents([-1, 0, 0, 0])
    x = [1.0, np.inf, 3.0]
    assert ops.leaf_stat(star, x, how="quantile", q=0.5)[0] == 3.0
    assert ops.leaf_stat(star, x, how="quantile", q=0.9)[0] == np.inf
    assert ops.leaf_stat(star, x, how="top_mean", k=2)[0] == np.inf
    assert np.isnan(ops.leaf_stat(star, x, how="var")[0])
    assert ops.leaf_stat(star, [np.inf, -np.inf, 0.0], how="quantile", q=0.5)[0] == 0.0


def test_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    for dtype, out in [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)]:
        got = ops.leaf_stat(forest, torch.tensor([1, 3], dtype=dtype), how="var")
        assert (got.dtype, got.tolist()) == (out, [1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"leaf_stat\(\): 'leaf_values' requires grad"):
        ops.leaf_stat(forest, torch.ones(2, requires_grad=True), how="mean")


def test_empty():
    for how in HOWS:
        assert ops.leaf_stat(Forest.from_parents([]), [], **how).shape == (0,)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"how": "median"},
            ValueError,
            "'how' must be one of 'mean', 'var', 'std', 'quantile', 'top_mean', got 'median'",
        ),
        ({"how": "quantile"}, ValueError, "how='quantile' needs 'q', which quantile, from 0 to 1"),
        ({"how": "top_mean"}, ValueError, "how='top_mean' needs 'k', how many of the largest leaves"),
        ({"how": "mean", "q": 0.5}, ValueError, "'q' goes with how='quantile', got how='mean'"),
        ({"how": "var", "k": 2}, ValueError, "'k' goes with how='top_mean', got how='var'"),
        (
            {"how": "quantile", "q": 0.5, "ddof": 1},
            ValueError,
            "'ddof' goes with how='var' or 'std', got how='quantile'",
        ),
        ({"how": "quantile", "q": 1.5}, ValueError, r"'q' must be in \[0, 1\], got 1.5"),
        ({"how": "quantile", "q": np.nan}, ValueError, r"'q' must be in \[0, 1\], got NaN"),
        ({"how": "quantile", "q": "0.5"}, TypeError, "'q' must be a number, got an object of type str"),
        ({"how": "top_mean", "k": 0}, ValueError, "'k' must be at least 1, got 0"),
        ({"how": "top_mean", "k": 1.5}, TypeError, "'k' must be a whole number, got an object of type float"),
        ({"how": "top_mean", "k": True}, TypeError, "'k' must be a whole number, got an object of type bool"),
        ({"how": "var", "ddof": -1}, ValueError, "'ddof' must be a whole number from 0 to 1000, got -1"),
        ({"how": "var", "ddof": 0.5}, TypeError, "'ddof' must be a whole number of at least 0, got 0.5"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=rf"leaf_stat\(\): {message}"):
        ops.leaf_stat(Forest.from_parents([-1, 0, 0]), [1.0, 2.0], **options)


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(
        ValueError, match=r"leaf_stat\(\): 'leaf_values' must have length 2 \(= forest.n_leaves\), got 3"
    ):
        ops.leaf_stat(forest, [1.0, 2.0, 3.0], how="mean")
    with pytest.raises(
        TypeError, match=r"leaf_stat\(\): 'forest' must be a rollmath.Forest, got an object of type list"
    ):
        ops.leaf_stat([-1, 0, 0], [1.0, 2.0], how="mean")
