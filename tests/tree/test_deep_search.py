"""DeepSearch: the vector, the rule told one rollout after another in any order, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest, ops
from rollmath.tree import deep_search, deep_search_values

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
FLOORS = st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0])


def draw(oracle, size):
    """A random forest, +-1 or real rewards (mostly failures), and entropies with ties."""
    forest = Forest.from_parents(oracle("forest.py", "random_parents")(*size))
    rng = np.random.default_rng(size[0])
    values = [-1.0, -1.0, -1.0, 1.0] if size[0] % 2 else [-1.5, -0.25, 0.0, 0.5, -2.0]
    return forest, rng.choice(values, forest.n_leaves), rng.integers(0, 4, forest.n_leaves) / 4


def options(failures, entropies):
    return {"failures": failures, "entropies": entropies if failures == "most_confident" else None}


def test_the_vector(vectors):
    f1 = vectors("structured")["F1"]
    forest = Forest.from_parents(f1["parent"])
    rewards = [2.0 * f1["leaf_reward"][f1["names"][v]] - 1.0 for v in forest.leaves]
    q = deep_search_values(forest, rewards)
    assert {name: q[f1["names"].index(name)] for name in f1["deepsearch_q"]} == f1["deepsearch_q"]
    # The mean of the leaves is 0, so that advantages are values.
    got = deep_search(forest, rewards)
    assert got.round(6).tolist() == [0.0, 0.462117, 0.761594, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0]


@given(SIZES, FLOORS, st.sampled_from(["all", "most_confident"]), st.sampled_from([np.float64, np.float32]))
def test_against_the_rule_in_any_order(oracle, tolerance, size, floor, failures, dtype):
    forest, rewards, entropies = draw(oracle, size)
    rewards, given_ = rewards.astype(dtype), options(failures, entropies)
    got = deep_search_values(forest, rewards, floor=floor, **given_)
    assert got.dtype == dtype
    rng = np.random.default_rng(size[0])
    for order in (range(forest.n_leaves), rng.permutation(forest.n_leaves), rng.permutation(forest.n_leaves)):
        expected = oracle("tree/deep_search.py", "deep_search_values")(
            forest.parents, forest.leaves, rewards, floor=floor, order=order, **given_
        )
        np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SIZES, FLOORS, st.sampled_from(["all", "most_confident"]), st.sampled_from([0.5, 1.0, 4.0]))
def test_advantages_against_the_oracle(oracle, tolerance, size, floor, failures, bound):
    forest, rewards, entropies = draw(oracle, size)
    given_ = {"floor": floor, "temperature": 2 * bound, "bound": bound, **options(failures, entropies)}
    expected = oracle("tree/deep_search.py", "deep_search")(forest.parents, forest.leaves, rewards, **given_)
    np.testing.assert_allclose(deep_search(forest, rewards, **given_), expected, **tolerance("float64"))


def test_deep_trees(oracle, tolerance):
    """Deep enough that the weight of some leaves is the floor, at nodes where that of others is not."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        n = 150
        parents = np.r_[-1, [rng.integers(max(0, v - 1 - seed), v) for v in range(1, n)]]
        forest = Forest.from_parents(parents)
        rewards = rng.choice([-1.0, 1.0], forest.n_leaves) if seed % 2 else -rng.random(forest.n_leaves)
        expected = oracle("tree/deep_search.py", "deep_search_values")(parents, forest.leaves, rewards)
        np.testing.assert_allclose(deep_search_values(forest, rewards), expected, **tolerance("float64"))


@given(SIZES, FLOORS, st.sampled_from(["all", "most_confident"]))
def test_laws(oracle, same_bits, size, floor, failures):
    forest, rewards, entropies = draw(oracle, size)
    given_ = {"floor": floor, **options(failures, entropies + np.arange(forest.n_leaves) / 1e6)}
    q = deep_search_values(forest, rewards, **given_)
    # A node has a positive value where a success is below it (roots with floor=0 have no weight), else none.
    success = ops.up(forest, rewards, how="max") > 0
    weighty = (forest.depth > 0) | (floor > 0) | np.isin(np.arange(forest.n_nodes), forest.leaves)
    assert (q[success & weighty] > 0).all()
    assert (q[~success] <= 0).all()
    same_bits(deep_search_values(forest, rewards * 4, **given_), q * 4)
    # Leaves of a tree have advantages that sum to 0.
    advantage = deep_search(forest, rewards, **given_)
    inner = advantage[forest.leaves[forest.parents[forest.leaves] >= 0]]
    trees = forest.tree[forest.leaves[forest.parents[forest.leaves] >= 0]]
    np.testing.assert_allclose(np.bincount(trees, inner, minlength=forest.n_trees), 0, atol=1e-12)
    assert not advantage[forest.roots].any()
    # Renumbering changes no bit.
    to = np.random.default_rng(size[0]).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    other, r, h = Forest.from_parents(turned), np.zeros(len(to)), np.zeros(len(to))
    r[to[forest.leaves]] = rewards
    h[to[forest.leaves]] = entropies + np.arange(forest.n_leaves) / 1e6
    given_ = {"floor": floor, **options(failures, h[other.leaves])}
    same_bits(deep_search_values(other, r[other.leaves], **given_)[to], q)


def test_the_most_confident_failure():
    forest = Forest.from_parents([-1, 0, 0, 1, 1, 2, -1, 6, 6, 8])
    #              leaves 3, 4, 5 of the first tree and 7, 9 of the second
    rewards, entropies = [-1.0, -1.0, -1.0, -1.0, 1.0], [0.5, 0.2, 0.2, 0.1, 0.9]
    got = deep_search_values(forest, rewards, failures="most_confident", entropies=entropies)
    assert got.tolist() == [-0.1, -0.5, 0.0, -1.0, -1.0, -1.0, 0.1, -1.0, 0.5, 1.0]


def test_small_and_empty_forests():
    assert deep_search_values(Forest.from_parents([-1]), [-1.0]).tolist() == [-1.0]
    assert deep_search(Forest.from_parents([-1]), [-1.0]).tolist() == [0.0]
    assert deep_search(Forest.from_parents([]), []).shape == (0,)
    empty = deep_search_values(Forest.from_parents([]), [], failures="most_confident", entropies=[])
    assert empty.shape == (0,)
    chain = Forest.from_parents(np.arange(-1, 99_999))
    got = deep_search_values(chain, [1.0])
    np.testing.assert_allclose(got, np.maximum(np.arange(100_000) / 99_999, 0.1), rtol=1e-14)
    torch = pytest.importorskip("torch")
    assert deep_search(Forest.from_parents([-1, 0, 0]), torch.tensor([1, -1])).tolist() == [0.0, 1.0, -1.0]


def test_wrong_calls():
    forest, r = Forest.from_parents([-1, 0, 0]), [1.0, -1.0]
    cases = [
        ({"rewards": [1.0]}, ValueError, r"'rewards' must have length 2 \(= forest.n_leaves\), got 1"),
        ({"rewards": [1.0, math.nan]}, ValueError, "'rewards' must be finite, got nan at index 1; take such rollouts"),
        ({"floor": 1.5}, ValueError, "'floor' must be between 0 and 1, got 1.5"),
        ({"failures": "none"}, ValueError, "'failures' must be one of 'all', 'most_confident', got 'none'"),
        (
            {"entropies": [1.0, 1.0]},
            ValueError,
            "'entropies' go with failures='most_confident', got failures='all'; ch",
        ),
        (
            {"failures": "most_confident"},
            ValueError,
            "'entropies' go with .*='most_confident'; they decide between fail",
        ),
        (
            {"failures": "most_confident", "entropies": [1.0, math.nan]},
            ValueError,
            "'entropies' must be finite, got nan at rollout 1",
        ),
        ({"failures": "most_confident", "entropies": [1.0]}, ValueError, "'entropies' must have length 2"),
        ({"forest": None}, TypeError, "'forest' must be a rollmath.Forest"),
    ]
    for call in (deep_search, deep_search_values):
        for wrong, error, message in cases:
            with pytest.raises(error, match=rf"{call.__name__}\(\): {message}"):
                call(**{"forest": forest, "rewards": r, **wrong})
    with pytest.raises(ValueError, match=r"deep_search\(\): 'temperature' must be finite and positive, got 0"):
        deep_search(forest, r, temperature=0)
    with pytest.raises(ValueError, match=r"deep_search\(\): 'bound' must be finite and not negative, got -1"):
        deep_search(forest, r, bound=-1)
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"deep_search\(\): 'rewards' requires grad"):
        deep_search(forest, torch.ones(2, requires_grad=True))


def test_a_deep_comb_in_linear_time():
    n = 100_000
    spine = np.arange(-1, n - 1)
    forest = Forest.from_parents(np.concatenate([spine, np.arange(n)]))
    rewards = np.where(np.arange(n) % 3 == 0, 2.0, 0.0)
    got = deep_search_values(forest, rewards)
    for i in [0, 1, 99, 5_000, 9_999, 10_000, 10_001, 60_000, n - 2]:
        expected = math.fsum(np.maximum(i / np.arange(i + 1, n + 1), 0.1) * rewards[i:])  # leaf l at depth l + 1
        assert got[i] == pytest.approx(expected, rel=1e-13)
