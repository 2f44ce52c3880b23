"""QLASS: the vector of the official code, its recursion, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest
from rollmath.ops import up
from rollmath.tree import qlass

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))


def draw(oracle, size):
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    values = [0.0, 1.0] if size[0] % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves), rng.integers(0, 3, forest.n_nodes)


def test_the_vector_of_the_official_code(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [f1["leaf_reward"][f1["names"][v]] for v in forest.leaves]
    assert qlass(forest, rewards).round(7).tolist() == f1["qlass_h5"]
    scaled = [0.0, 0.946335, 1.0, 0.0, 0.872598, 0.0, 0.872598, 0.872598, 0.0]
    assert qlass(forest, rewards, scale="min_max").round(6).tolist() == scaled


@given(
    SIZES,
    st.sampled_from([0.0, 0.9, 1.0, 1 - 1e-12]),
    st.integers(1, 7),
    st.sampled_from(["leaf_mean", "zero"]),
    st.sampled_from(["none", "min_max"]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, size, gamma, height, way, scale, repeated, dtype):
    forest, rewards, actions = draw(oracle, size)
    rewards = rewards.astype(dtype)
    options = {"gamma": gamma, "height": height, "on_the_way": way, "actions": actions if repeated else None}
    got = qlass(forest, rewards, **options, scale=scale)
    assert got.dtype == dtype
    expected = oracle("tree/qlass.py", "qlass")(forest.parents, forest.leaves, rewards, **options, scale=scale)
    if scale == "min_max":
        # Where values agree but for rounding, what is left of their differences is rounding.
        plain = oracle("tree/qlass.py", "qlass")(forest.parents, forest.leaves, rewards, **options)
        for tree in range(forest.n_trees):
            own = (forest.tree == tree) & (forest.parents >= 0)
            spread = np.ptp(np.array(plain)[own & ~np.isnan(plain)]) if (own & ~np.isnan(plain)).any() else 0.0
            if 0 < spread < 1e-4:
                got, expected = np.where(forest.tree == tree, 0, got), np.where(forest.tree == tree, 0, expected)
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES)
def test_laws(oracle, same_bits, size):
    forest, rewards, actions = draw(oracle, size)
    base = qlass(forest, rewards)
    np.testing.assert_allclose(qlass(forest, rewards * 4), base * 4, rtol=1e-14)
    # All rewards at the leaves and no discount: the maximum.
    best = qlass(forest, rewards, gamma=1.0, height=1, on_the_way="zero")
    assert np.array_equal(best, up(forest, rewards, how="max"))
    # Scaled values are between 0 and 1, and do not depend on the scale of rewards.
    scaled = qlass(forest, rewards, scale="min_max")
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert not scaled[forest.roots].any()
    same_bits(qlass(forest, rewards * 4, scale="min_max"), scaled)
    # Renumbering nodes changes no bit; of repeated actions the first by number is kept, so without those.
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other, by_node = Forest.from_parents(turned), np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    same_bits(qlass(other, by_node[other.leaves])[to], base)
    # Distinct actions take nothing out.
    same_bits(qlass(forest, rewards, actions=np.arange(forest.n_nodes)), base)
    assert np.isnan(qlass(forest, rewards, actions=actions))[forest.roots].sum() == 0


def test_repeated_actions_go_with_all_below():
    #    0: search (1), search (2), click (3); below 2 is the only success
    forest = Forest.from_parents([-1, 0, 0, 0, 1, 2])
    words = ["", "search", "search", "click", "buy", "buy"]
    got = qlass(forest, [0.5, 0.0, 1.0], gamma=1.0, height=1, actions=words)
    # Leaves are 3 (0.5), 4 (0.0), 5 (1.0); without 2 and 5 the mean of the root is 0.25.
    np.testing.assert_array_equal(got, [0.75, 0.0, math.nan, 0.5, 0.0, math.nan])
    whole = qlass(forest, [0.5, 0.0, 1.0], gamma=1.0, height=1)
    assert whole.tolist() == [2.5, 0.0, 2.0, 0.5, 0.0, 1.0]


def test_deep_and_small_trees():
    n = 3000
    chain = Forest.from_parents(np.arange(-1, n - 1))
    got = qlass(chain, [1.0], gamma=0.5)
    np.testing.assert_allclose(got, np.r_[2 - 0.5 ** np.arange(n - 1, 0, -1.0), 1.0], rtol=1e-14)
    assert qlass(Forest.from_parents([-1, -1]), [1.0, 2.0], height=2).tolist() == pytest.approx([1.9, 3.8])
    assert qlass(Forest.from_parents([-1, -1]), [1.0, 2.0], scale="min_max").tolist() == [0.0, 0.0]
    assert qlass(Forest.from_parents([]), []).shape == (0,)
    assert qlass(Forest.from_parents([]), [], actions=[], scale="min_max").shape == (0,)
    same = Forest.from_parents([-1, 0, 0])
    assert qlass(same, [0.1, 0.1], scale="min_max").tolist() == [0.0, 0.0, 0.0]


def test_kinds():
    torch = pytest.importorskip("torch")
    forest = Forest.from_parents([-1, 0, 0])
    got = qlass(forest, torch.tensor([1, 0]), actions=torch.tensor([0, 1, 1]))
    assert got.dtype == torch.float32
    assert got.isnan().tolist() == [False, False, True]
    with pytest.raises(ValueError, match=r"qlass\(\): 'rewards' requires grad"):
        qlass(forest, torch.ones(2, requires_grad=True))


def test_wrong_calls():
    forest = Forest.from_parents([-1, 0, 0])
    cases = [
        (lambda: qlass(forest, [1.0]), ValueError, r"'rewards' must have length 2 \(= forest.n_leaves\), got 1"),
        (lambda: qlass(forest, [1.0, math.inf]), ValueError, "'rewards' must be finite, got inf at index 1; take such"),
        (lambda: qlass(forest, [1.0, 0.0], gamma=1.1), ValueError, "'gamma' must be between 0 and 1, got 1.1"),
        (lambda: qlass(forest, [1.0, 0.0], height=0), ValueError, "'height' must be at least 1, got 0"),
        (lambda: qlass(forest, [1.0, 0.0], height=2.0), TypeError, "'height' must be a whole number"),
        (lambda: qlass(forest, [1.0, 0.0], scale="std"), ValueError, "'scale' must be one of 'none', 'min_max', got"),
        (
            lambda: qlass(forest, [1.0, 0.0], on_the_way="max"),
            ValueError,
            "'on_the_way' must be one of 'leaf_mean', 'z",
        ),
        (
            lambda: qlass(forest, [1.0, 0.0], actions=["a"]),
            ValueError,
            r"'actions' must have length 3 \(= forest.n_nodes\), got 1",
        ),
        (lambda: qlass(forest, [1.0, 0.0], actions=3), TypeError, "'actions' must be a sequence with one id a row"),
        (lambda: qlass(None, [1.0, 0.0]), TypeError, "'forest' must be a rollmath.Forest"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=r"qlass\(\): " + message):
            call()
