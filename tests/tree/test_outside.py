"""tree.outside_subtree and tree.probe_only_fresh: the oracle, and that they are unbiased, by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest
from rollmath.tree import outside_subtree, probe_only_fresh

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 40))
REFERENCE = [-1, 0, 0, 0, 1, 1, 2, 2, 2]


def draw(oracle, size):
    seed, n = size
    rng = np.random.default_rng(seed)
    parents = oracle("forest.py", "random_parents")(seed, n)
    groups = rng.integers(0, 3, int((parents < 0).sum()))
    forest = Forest.from_parents(parents, groups=groups)
    values = [0.0, 1.0] if seed % 2 else rng.normal(size=5)
    return forest, rng.choice(values, forest.n_leaves), groups


def test_by_hand():
    forest = Forest.from_parents(REFERENCE)
    rewards = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0]  # C A1 A2 B1 B2 B3
    got, undefined = outside_subtree(forest, rewards)
    # A: the others are C and B1 to B3, of which two succeed; B: C, A1, A2, of which one does.
    expected = [0, 0.5 - 0.5, 2 / 3 - 1 / 3, 0 - 3 / 5, 1, -1, 0.5, 0.5, -1]
    np.testing.assert_allclose(got, expected, atol=1e-15)
    assert undefined == 0
    np.testing.assert_allclose(
        outside_subtree(forest, rewards, value="mean_of_children").advantages,
        rm.tree.spo(forest, rewards, leave_one_out=True),
        atol=1e-15,
    )


@given(
    SIZES,
    st.sampled_from(["leaf_mean", "mean_of_children"]),
    st.sampled_from(["tree", "group", "none"]),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, size, value, climb, dtype):
    forest, rewards, groups = draw(oracle, size)
    got, undefined = outside_subtree(forest, rewards.astype(dtype), value=value, climb=climb)
    expected, missing = oracle("tree/outside.py", "outside_subtree")(
        forest.parents, forest.leaves, rewards.astype(dtype), groups.tolist(), value, climb
    )
    assert got.dtype == dtype
    assert undefined == missing
    np.testing.assert_allclose(got, expected, **tolerance(np.dtype(dtype).name))


@given(SIZES)
def test_laws(oracle, size):
    forest, rewards, _ = draw(oracle, size)
    base = outside_subtree(forest, rewards).advantages
    moved = outside_subtree(forest, 3.0 * rewards + 2.0).advantages
    np.testing.assert_allclose(moved, 3.0 * base, atol=1e-12)
    same = outside_subtree(forest, np.full(forest.n_leaves, 0.7), climb="group").advantages
    assert not same.any()
    soft = outside_subtree(forest, rewards, value="mean_of_children", climb="none").advantages
    np.testing.assert_allclose(soft, rm.tree.spo(forest, rewards, leave_one_out=True), atol=1e-12)


def sampled(widths, p, stop):
    """All trees that a policy can sample, as one forest.

    Each level has branches as ``widths`` says, each step is a coin that shows 1 with probability ``p[level]``; a 0 in
    the last level but one ends the branch if ``stop``. Returns the forest, the coin of each node, the probability of
    each tree, the level of each node and the rewards.
    """
    parents, coins, levels, probability, rewards = [], [], [], [], []
    full = [(-1, 0)]
    for width in widths:
        last = [i for i, (_, level) in enumerate(full) if level == full[-1][1]]
        full += [(v, full[v][1] + 1) for v in last for _ in range(width)]
    steps = len(full) - 1
    for outcome in itertools.product([0, 1], repeat=steps):
        coin = [0, *outcome]
        kept, chance = {0: len(parents)}, 1.0
        unused = 0
        for v, (above, level) in enumerate(full):
            if v and above not in kept:
                unused += 1
                continue
            if v and stop and level == len(widths) and coin[above] == 0:
                unused += 1
                continue
            kept[v] = len(parents)
            parents.append(kept[above] if v else -1)
            coins.append(coin[v])
            levels.append(level)
            if v:
                chance *= p[level - 1] if coin[v] else 1 - p[level - 1]
        probability.append(chance / 2**unused)
    parents = np.array(parents)
    forest = Forest.from_parents(parents)
    coins, levels = np.array(coins), np.array(levels)
    for leaf in forest.leaves:
        path, v = [], leaf
        while v >= 0:
            path.append(coins[v])
            v = parents[v]
        path = path[::-1]
        rewards.append(path[1] * 1.0 + 2.0 * path[1] * sum(path[2:]) - 0.5 * sum(path[2:]) + 0.3 * len(path))
    return forest, coins, np.array(probability), levels, np.array(rewards)


def first_step_gradient(forest, coins, probability, levels, advantages, p):
    """Expectation of ``mean_v A(v) d log pi(first step) / d p`` over all trees."""
    score = np.where(coins == 1, 1 / p, -1 / (1 - p))
    at = levels == 1
    tree = forest.tree[at]
    estimate = np.bincount(tree, (advantages * score)[at], minlength=forest.n_trees) / np.bincount(tree)
    return float(probability @ estimate)


def true_gradient(widths, p, stop):
    """That of the expected reward by the first probability, from single rollouts."""
    total = {}
    for first in (0, 1):
        forest, coins, probability, _, rewards = sampled([1] * len(widths), p, stop)
        chosen = coins[forest.roots + 1] == first
        weight = probability / (p[0] if first else 1 - p[0])
        total[first] = float((weight * rewards)[chosen].sum())
    return total[1] - total[0]


@pytest.mark.parametrize(
    ("widths", "stop", "value"),
    [((2, 2), False, "leaf_mean"), ((3, 2), False, "leaf_mean"), ((2, 2, 2), True, "mean_of_children")],
)
def test_it_leaves_the_gradient_unbiased(widths, stop, value):
    p = [0.3, 0.6, 0.45]
    case = sampled(widths, p, stop)
    forest, coins, probability, levels, rewards = case
    assert abs(probability.sum() - 1) < 1e-12
    truth = true_gradient(widths, p, stop)
    advantages = outside_subtree(forest, rewards, value=value).advantages
    assert abs(first_step_gradient(forest, coins, probability, levels, advantages, p[0]) - truth) < 1e-12

    # Leaving out the rollout alone is not enough: the others still go through the same first step.
    per_rollout = rm.group.rloo(rewards, forest.rollout_groups)
    biased = rm.ops.up(forest, per_rollout, how="leaf_mean")
    assert abs(first_step_gradient(forest, coins, probability, levels, biased, p[0]) - truth) > 0.02


def test_wide_branches_bias_a_mean_over_leaves():
    widths, p = (2, 2, 2), [0.3, 0.6, 0.45]
    forest, coins, probability, levels, rewards = sampled(widths, p, True)
    truth = true_gradient(widths, p, True)
    advantages = outside_subtree(forest, rewards, value="leaf_mean").advantages
    assert abs(first_step_gradient(forest, coins, probability, levels, advantages, p[0]) - truth) > 1e-3


def test_fresh_probes_are_unbiased_and_the_original_is_not():
    """A rollout of two coins, forked before the coin that is the less likely of the two; two fresh probes."""
    p = np.array([0.5, 0.7])
    bias = {"fresh": 0.0, "all": 0.0}
    for first, second, *fresh in itertools.product([0, 1], repeat=4):
        coin = np.array([first, second])
        chance = np.where(coin == 1, p, 1 - p)
        at = int(np.argmin(chance))
        if at == 0:
            continue  # forked at the root; the same argument
        q = p[1]
        weight = chance.prod() * np.prod([q if f else 1 - q for f in fresh])
        forest = Forest.from_parents([-1, 0, 1, 1, 1])
        rewards = [float(second), *map(float, fresh)]
        weights = probe_only_fresh(forest, [False, True, True, False, False])
        for name, w in (("fresh", weights), ("all", None)):
            value = rm.ops.up(forest, rewards, how="mean_of_children", weights=w)[1]
            bias[name] += weight * (value - q)
    assert abs(bias["fresh"]) < 1e-12
    assert abs(bias["all"]) > 0.01


@given(SIZES)
def test_probe_weights_against_the_oracle(oracle, size):
    forest, _, _ = draw(oracle, size)
    rng = np.random.default_rng(size[0])
    original = np.zeros(forest.n_nodes, dtype=bool)
    for family in range(forest.siblings.n_groups):
        if rng.random() < 0.7:
            original[rng.choice(np.flatnonzero(forest.siblings.index == family))] = True
    expected = oracle("tree/outside.py", "probe_only_fresh")(forest.parents.tolist(), original.tolist())
    assert probe_only_fresh(forest, original).tolist() == expected


def test_errors():
    forest = Forest.from_parents(REFERENCE)
    rewards = np.zeros(6)
    with pytest.raises(TypeError, match=r"outside_subtree\(\): 'forest' must be a rollmath.Forest"):
        outside_subtree([1], rewards)
    with pytest.raises(ValueError, match=r"outside_subtree\(\): 'rewards' must have length 6 \(= forest.n_leaves\)"):
        outside_subtree(forest, rewards[:5])
    rewards[2] = np.nan
    with pytest.raises(ValueError, match=r"outside_subtree\(\): 'rewards' must be finite, got nan at index 2; take"):
        outside_subtree(forest, rewards)
    with pytest.raises(ValueError, match=r"outside_subtree\(\): 'climb' must be one of 'tree', 'group', 'none'"):
        outside_subtree(forest, np.zeros(6), climb="up")
    with pytest.raises(ValueError, match=r"outside_subtree\(\): 'value' must be one of"):
        outside_subtree(forest, np.zeros(6), value="max")
    with pytest.raises(ValueError, match=r"probe_only_fresh\(\): 'original' must mark at most one .* several of"):
        probe_only_fresh(forest, [0, 0, 0, 0, 1, 1, 0, 0, 0])
    with pytest.raises(ValueError, match=r"probe_only_fresh\(\): 'original' must have length 9"):
        probe_only_fresh(forest, [True])
    for bad in (None, np.zeros(9)):
        with pytest.raises(TypeError, match=r"probe_only_fresh\(\): 'original' must be bool or integer"):
            probe_only_fresh(forest, bad)
