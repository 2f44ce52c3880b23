"""ops.up against its definition; bits do not depend on numbering or threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, ops

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
#: Every ``how``, as keywords.
HOWS = [
    *({"how": how} for how in ("mean_of_children", "leaf_mean", "sum", "max", "min")),
    *({"how": how, "beta": b} for how in ("logmeanexp_of_children", "leaf_logmeanexp") for b in (0.0, 1e-3, 0.5, 40.0)),
    {"how": "leaf_logmeanexp", "beta": np.inf},
]
TRUTH = [{"how": "any"}, {"how": "all"}]
F1 = [-1, 0, 0, 0, 1, 1, 2, 2, 2]


def forest_of(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    return parents, Forest.from_parents(parents)


@given(SIZES, st.sampled_from(HOWS), st.sampled_from([np.float64, np.float32, np.float16]))
def test_against_the_oracle(oracle, tolerance, size, how, dtype):
    parents, forest = forest_of(oracle, size)
    x = np.random.default_rng(size[0]).normal(3, 2, forest.n_leaves).astype(dtype)
    got = ops.up(forest, x, **how)
    assert got.dtype == (np.float32 if dtype == np.float16 else dtype)
    expected = oracle("ops/forest.py", "up")(parents, forest.leaves, x, **how)
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))


@given(SIZES, st.sampled_from(HOWS), st.sampled_from([1.0, 1e-160, 1e300]), st.sampled_from([np.nan, -7.0]))
def test_weights_against_the_oracle(oracle, tolerance, size, how, scale, empty):
    parents, forest = forest_of(oracle, size)
    rng = np.random.default_rng(size[0])
    x = rng.normal(3, 2, forest.n_leaves)
    weights = rng.choice([0.0, 0.5, 1.0, 3.7], forest.n_nodes, p=[0.3, 0.2, 0.3, 0.2])
    expected = oracle("ops/forest.py", "up")(parents, forest.leaves, x, **how, weights=weights, empty=empty)
    if how["how"] in ("mean_of_children", "logmeanexp_of_children", "max", "min"):
        weights *= scale  # Ratios of siblings are all that counts.
    got = ops.up(forest, x, **how, weights=weights, empty=empty)
    np.testing.assert_allclose(got, expected, **tolerance(got.dtype))


@given(SIZES, st.sampled_from(TRUTH), st.booleans())
def test_any_and_all_against_the_oracle(oracle, size, how, weighted):
    parents, forest = forest_of(oracle, size)
    rng = np.random.default_rng(size[0])
    x = rng.choice([0.0, -0.0, 1.0, -2.0, np.inf], forest.n_leaves)
    weights = rng.choice([0.0, 1.0, 2.0], forest.n_nodes) if weighted else None
    expected = oracle("ops/forest.py", "up")(
        parents, forest.leaves, x, **how, weights=weights, empty=float(how["how"] == "all")
    )
    got = ops.up(forest, x, **how, weights=weights)
    assert got.dtype == bool
    assert got.tolist() == [value == 1 for value in expected]


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert np.round(ops.up(forest, rewards, how="mean_of_children"), 7).tolist() == f1["mean_children"]
    assert np.round(ops.up(forest, rewards, how="leaf_mean"), 7).tolist() == f1["leaf_mean"]
    assert forest.leaf_counts.tolist() == f1["n_leaves"]
    soft = ops.up(forest, rewards, how="logmeanexp_of_children", beta=0.5)
    assert np.round(soft[:4], 6).tolist() == [0.624181, 0.71689, 0.830006, 0.0]
    assert np.round(ops.up(forest, rewards, how="leaf_logmeanexp", beta=0.5)[0], 6) == 0.71689
    # Eight rewards, two of them 1, below one prompt.
    star = Forest.from_parents([-1] + [0] * 8)
    assert np.round(ops.up(star, [1, 1, 0, 0, 0, 0, 0, 0], how="leaf_logmeanexp", beta=0.5)[0], 6) == 0.477229


def test_weights_by_hand():
    # A has weight 2, B 1, C none; below A only A1, below B all with weights 1, 2, 3.
    forest, x, w = Forest.from_parents(F1), [9.0, 1.0, 7.0, 4.0, 1.0, 0.0], [5, 2, 1, 0, 3, 0, 1, 2, 3]

    def run(how, **rest):
        return ops.up(forest, x, how=how, weights=w, **rest)[:4].tolist()

    assert run("mean_of_children") == [(2 * 1 + 1) / 3, 1.0, 1.0, 9.0]
    assert run("leaf_mean") == [(6 * 1 + 4 + 2) / (6 + 6), 1.0, 1.0, 9.0]
    assert run("sum") == [2 * 3 + 6, 3.0, 6.0, 9.0]
    assert run("max") == [4.0, 1.0, 4.0, 9.0]
    assert run("min") == [0.0, 1.0, 0.0, 9.0]
    assert run("any") == [True, True, True, True]
    assert run("all") == [False, True, False, True]
    e = np.exp
    assert run("leaf_logmeanexp", beta=1.0)[0] == pytest.approx(np.log((6 * e(1) + e(4) + 2 * e(1) + 3) / 12))


def test_what_is_left_out_may_hold_anything():
    forest = Forest.from_parents(F1)
    for how in HOWS:
        # Node 2 is out with NaN and infinity below it, node 5 by itself.
        got = ops.up(forest, [3.0, 2.0, np.nan, np.nan, np.inf, 1.0], **how, weights=[1, 1, 0, 1, 1, 0, 1, 1, 1])
        assert np.isnan(got[2])
        assert np.isnan(got[5])
        assert np.isfinite(got[[0, 1, 3, 4]]).all()
        assert got[1] == 2.0


def test_a_node_with_nothing_below():
    forest = Forest.from_parents(F1)
    w = [1, 1, 1, 1, 0, 0, 1, 1, 1]
    for how in HOWS:
        got = ops.up(forest, [3.0, 1.0, 1.0, 5.0, 5.0, 5.0], **how, weights=w, empty=-1.0)
        assert got[1] == -1.0
        # Its parent leaves it out, whatever it got.
        assert got[0] == ops.up(forest, [3.0, 1.0, 1.0, 5.0, 5.0, 5.0], **how, weights=[1, 0, 1, 1, 0, 0, 1, 1, 1])[0]
    nothing = np.zeros(9)
    assert np.isnan(ops.up(forest, np.ones(6), how="sum", weights=nothing)[:3]).all()
    assert ops.up(forest, np.ones(6), how="sum", weights=nothing, empty=0.0).tolist() == [0.0] * 3 + [1.0] * 6
    for how, empty, expected in [("any", np.nan, False), ("all", np.nan, True), ("any", 1, True), ("all", 0, False)]:
        assert ops.up(forest, np.ones(6), how=how, weights=nothing, empty=empty)[:3].tolist() == [expected] * 3


def test_weights_far_from_one():
    # A chain of 4000 nodes each of which has a leaf, too: the product of the weights leaves the range of float64.
    n = 4000
    parents = np.array([-1] + [v for k in range(n) for v in (2 * k, 2 * k)])
    chain = np.arange(0, 2 * n + 1, 2)
    assert (parents[chain[1:]] == chain[:-1]).all()
    forest = Forest.from_parents(parents)
    w = np.ones(len(parents))
    for small in (1e-150, 1e-300, 5e-324, 1e300):
        w[chain[1:]] = small
        w[chain[1:] - 1] = small
        x = (forest.leaves == chain[-1]) * 1.0
        got = ops.up(forest, x, how="leaf_mean", weights=w)
        assert got[chain[-2]] == 0.5
        assert np.isfinite(got).all()
        equal = ops.up(forest, np.full(forest.n_leaves, 0.7), how="leaf_mean", weights=w)
        assert (equal == 0.7).all()
    w[:] = 1e308
    star = Forest.from_parents([-1, 0, 0, 0])
    assert ops.up(star, [1.0, 2.0, 6.0], how="mean_of_children", weights=w[:4])[0] == 3.0
    assert ops.up(star, [1.0, 2.0, 6.0], how="leaf_mean", weights=np.full(4, 5e-324))[0] == 3.0
    assert ops.up(star, [1.0, 2.0, 6.0], how="mean_of_children", weights=[1, 1, 1e-300, 1e-300])[0] == 1.0


@given(SIZES, st.sampled_from([*HOWS, *TRUTH]), st.booleans())
def test_renumbering_changes_no_bit(oracle, same_bits, size, how, weighted):
    parents = oracle("forest.py", "random_parents")(*size)
    rng = np.random.default_rng(size[0])
    to = rng.permutation(len(parents))
    turned = np.empty_like(parents)
    turned[to] = np.where(parents < 0, -1, to[parents])
    a, b = Forest.from_parents(parents), Forest.from_parents(turned)
    x = rng.choice([-0.0, 0.0, 0.1, 0.7, -1e-9, 1e9], len(parents))
    w = rng.choice([0.0, 1.0, 1.0, 0.3, 1e-200], len(parents))
    y, u = np.empty_like(x), np.empty_like(x)
    y[to], u[to] = x, w
    first = ops.up(a, x[a.leaves], **how, weights=w if weighted else None)
    same_bits(first, ops.up(b, y[b.leaves], **how, weights=u if weighted else None)[to])


@given(SIZES, st.sampled_from([*HOWS, *TRUTH]))
def test_weights_of_one_change_no_bit(oracle, same_bits, size, how):
    _, forest = forest_of(oracle, size)
    x = np.random.default_rng(size[0]).normal(size=forest.n_leaves)
    expected = ops.up(forest, x, **how)
    same_bits(ops.up(forest, x, **how, weights=np.ones(forest.n_nodes, dtype=np.int64)), expected)
    if how["how"] in ("mean_of_children", "max", "all"):
        same_bits(ops.up(forest, x, **how, weights=np.full(forest.n_nodes, 4.0)), expected)


@pytest.mark.parametrize("how", [*HOWS, *TRUTH])
def test_threads_do_not_matter(how):
    rng = np.random.default_rng(1)
    parents = np.concatenate([np.full(300, -1), rng.integers(0, 300, 3000), rng.integers(0, 3300, 100_000)])
    forest = Forest.from_parents(parents)
    x, w, before, made = rng.normal(size=forest.n_leaves), rng.random(forest.n_nodes), rm.num_threads(), []
    try:
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            made.append((ops.up(forest, x, **how).tobytes(), ops.up(forest, x, **how, weights=w).tobytes()))
    finally:
        rm.set_num_threads(before)
    assert made[0] == made[1] == made[2]


def test_equal_values_are_their_own_mean():
    forest = Forest.from_parents([-1] + [0] * 7 + [1] * 13)
    w = np.random.default_rng(0).random(forest.n_nodes)
    for how in HOWS:
        if how["how"] != "sum":
            assert set(ops.up(forest, np.full(19, 0.7), **how)) == {0.7}
            assert set(ops.up(forest, np.full(19, 0.7), **how, weights=w)) == {0.7}


@given(SIZES, st.sampled_from([1e-9, 1e-3, 0.1, 1.0, 30.0, 1e9]))
def test_logmeanexp_rises_from_mean_to_maximum(oracle, size, beta):
    _, forest = forest_of(oracle, size)
    x = np.random.default_rng(size[0]).normal(size=forest.n_leaves) * 3
    for how, mean in [("logmeanexp_of_children", "mean_of_children"), ("leaf_logmeanexp", "leaf_mean")]:
        soft = ops.up(forest, x, how=how, beta=beta)
        assert (soft <= ops.up(forest, x, how="max") + 1e-12).all()
        assert (soft >= ops.up(forest, x, how=mean) - 1e-12).all()
        # A shift goes through, and a scale of values and temperature does.
        np.testing.assert_allclose(ops.up(forest, x + 7.0, how=how, beta=beta), soft + 7.0, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ops.up(forest, x * 8, how=how, beta=beta * 8), soft * 8, rtol=1e-9, atol=1e-9)
    assert (ops.up(forest, x, how="leaf_logmeanexp", beta=0) == ops.up(forest, x, how="max")).all()
    assert (ops.up(forest, x, how="leaf_logmeanexp", beta=5e-324) == ops.up(forest, x, how="max")).all()


def test_nan_and_infinity_spread_to_ancestors_only():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2])
    for how in HOWS:
        for weights in (None, [1, 1, 2, 1, 3, 1]):
            for x in ([np.nan, 1.0, 2.0], [1.0, np.nan, 2.0]):
                got = ops.up(forest, x, **how, weights=weights)
                assert np.isnan(got[[0, 1]]).all()
                assert got[2] == 2.0
    for weights in (None, [1, 1, 2, 1, 3, 1]):
        assert ops.up(forest, [np.inf, 1.0, 2.0], how="leaf_mean", weights=weights)[0] == np.inf
        for how in ("logmeanexp_of_children", "leaf_logmeanexp"):
            assert ops.up(forest, [np.inf, 1.0, 2.0], how=how, beta=1.0, weights=weights)[0] == np.inf
            got = ops.up(forest, [-np.inf, 1.0, -np.inf], how=how, beta=1.0, weights=weights)
            assert np.isfinite(got[:2]).all()
            assert got[2] == -np.inf
            assert ops.up(forest, [-np.inf] * 3, how=how, beta=1.0, weights=weights)[0] == -np.inf


def test_torch_comes_back_as_torch():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    for dtype, out in [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.int64, torch.float32)]:
        x = torch.tensor([1, 2], dtype=dtype)
        got = ops.up(forest, x, how="sum")
        assert (got.dtype, got.tolist()) == (out, [3.0, 1.0, 2.0])
        assert ops.up(forest, x, how="mean_of_children", weights=torch.tensor([1, 1, 3])).tolist() == [1.75, 1.0, 2.0]
        assert ops.up(forest, x, how="all").dtype == torch.bool
        assert ops.leaf_to_node_weights(forest, x, x).positive.dtype == out
    with pytest.raises(ValueError, match=r"up\(\): 'weights' requires grad"):
        ops.up(forest, [1.0, 2.0], how="sum", weights=torch.ones(3, requires_grad=True))


def test_empty():
    forest = Forest.from_parents([])
    for how in [*HOWS, *TRUTH]:
        assert ops.up(forest, [], **how).shape == (0,)
        assert ops.up(forest, [], **how, weights=[]).shape == (0,)


def test_a_million_nodes_deep():
    n = 1_000_000
    forest = Forest.from_parents(np.arange(-1, n - 1))
    w = np.full(n, 0.25)
    for how in HOWS:
        assert (ops.up(forest, [0.3], **how) == 0.3).all()
        if how["how"] != "sum":
            assert (ops.up(forest, [0.3], **how, weights=w) == 0.3).all()


@given(SIZES, st.sampled_from([np.float64, np.float32]))
def test_node_weights_against_the_oracle(oracle, tolerance, size, dtype):
    parents, forest = forest_of(oracle, size)
    rng = np.random.default_rng(size[0])
    w, a = rng.random(forest.n_leaves), rng.normal(size=forest.n_leaves).astype(dtype)
    got = ops.leaf_to_node_weights(forest, w, a)
    expected = oracle("ops/forest.py", "leaf_to_node_weights")(parents, forest.leaves, w, a)
    for column, one in zip(got, expected, strict=True):
        assert column.dtype == dtype
        np.testing.assert_allclose(column, one, **tolerance(column.dtype))
    # Every leaf counts once in the roots.
    np.testing.assert_allclose(got.total[forest.roots].sum(), w.sum(), rtol=1e-6)


def test_node_weights_make_a_clipped_loss_exact():
    # Below node B rollouts disagree, at a ratio of 1.5 with clip 0.2: what they lose alone, and what the node loses.
    forest, a = Forest.from_parents([-1, 0, 0, 0]), np.array([0.912869, 0.912869, -0.912869])
    ratio, clipped = 1.5, 1.2
    alone = np.minimum(ratio * a, clipped * a).sum()
    out = ops.leaf_to_node_weights(forest, np.ones(3), a)
    assert out.positive[0] * clipped + out.negative[0] * ratio == pytest.approx(alone)
    assert round(alone, 6) == 0.821582
    assert out.total.tolist() == [3.0, 1.0, 1.0, 1.0]


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    with pytest.raises(ValueError, match=r"up\(\): 'how' must be one of 'mean_of_children', .*, got 'median'"):
        ops.up(forest, [1.0, 2.0], how="median")
    with pytest.raises(ValueError, match=r"up\(\): 'leaf_values' must have length 2 \(= forest.n_leaves\), got 3"):
        ops.up(forest, [1.0, 2.0, 3.0], how="sum")
    with pytest.raises(TypeError, match=r"up\(\): 'forest' must be a rollmath.Forest, got an object of type list"):
        ops.up([-1, 0, 0], [1.0, 2.0], how="sum")
    with pytest.raises(TypeError, match=r"'leaf_values' must be 1-D"):
        ops.up(forest, np.zeros((2, 1)), how="sum")
    with pytest.raises(ValueError, match=r"up\(\): 'weights' must have length 3 \(= forest.n_nodes\), got 2"):
        ops.up(forest, [1.0, 2.0], how="sum", weights=[1.0, 1.0])
    for bad, text in [(-1.0, "-1 at index 1"), (np.nan, "NaN at index 1"), (np.inf, "inf at index 1")]:
        with pytest.raises(ValueError, match=rf"up\(\): 'weights' must be finite and not negative, got {text}"):
            ops.up(forest, [1.0, 2.0], how="sum", weights=[1.0, bad, 1.0])
    with pytest.raises(TypeError, match=r"up\(\): 'weights' must hold floats, ints or bools, got <U1"):
        ops.up(forest, [1.0, 2.0], how="sum", weights=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"up\(\): how='leaf_logmeanexp' needs 'beta', its temperature"):
        ops.up(forest, [1.0, 2.0], how="leaf_logmeanexp")
    for bad, text in [(-0.5, "-0.5"), (np.nan, "NaN")]:
        with pytest.raises(ValueError, match=rf"up\(\): 'beta' must be at least 0, got {text}"):
            ops.up(forest, [1.0, 2.0], how="leaf_logmeanexp", beta=bad)
    with pytest.raises(TypeError, match=r"up\(\): 'beta' must be a number, got an object of type str"):
        ops.up(forest, [1.0, 2.0], how="leaf_logmeanexp", beta="1")
    with pytest.raises(ValueError, match=r"up\(\): 'beta' goes with how='logmeanexp_of_children' or .*, got how='sum'"):
        ops.up(forest, [1.0, 2.0], how="sum", beta=1.0)
    with pytest.raises(TypeError, match=r"up\(\): 'empty' must be a number, got an object of type NoneType"):
        ops.up(forest, [1.0, 2.0], how="sum", empty=None)
    for how in ("any", "all"):
        with pytest.raises(
            ValueError, match=rf"'leaf_values' must not be NaN with how='{how}', got NaN at index 1; take"
        ):
            ops.up(forest, [1.0, np.nan], how=how)
    for wrong, name in [(([1.0], [1.0, 2.0]), "weights"), (([1.0, 2.0], [1.0]), "advantages")]:
        with pytest.raises(
            ValueError, match=rf"leaf_to_node_weights\(\): '{name}' must have length 2 \(= forest.n_leav"
        ):
            ops.leaf_to_node_weights(forest, *wrong)
    with pytest.raises(TypeError, match=r"leaf_to_node_weights\(\): 'forest' must be a rollmath.Forest"):
        ops.leaf_to_node_weights(None, [1.0], [1.0])


@pytest.mark.parametrize("size", [5e-324, 1e-320, 1e-310, 1e-300, 1e300, 1.7e308])
def test_only_the_ratio_of_weights_matters(size):
    star, x = Forest.from_parents([-1, 0, 0, 0]), [1.0, 2.0, 4.0]
    for how, beta in [(h, None) for h in ("mean_of_children", "leaf_mean")] + [("leaf_logmeanexp", 1.0)]:
        plain = ops.up(star, x, how=how, beta=beta)
        assert ops.up(star, x, how=how, beta=beta, weights=np.full(4, size)) == pytest.approx(plain, rel=1e-15)
