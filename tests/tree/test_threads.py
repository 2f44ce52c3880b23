"""Methods on forests have the same bits for any number of threads and for any numbering of nodes."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest, tree

METHODS = {
    "tree_rl": tree.tree_rl,
    "tree_rl code": lambda f, r: tree.tree_rl(f, r, sqrt="code", zero_fill=True, shift="step"),
    "tree_grpo": tree.tree_grpo,
    "tree_grpo_difference": tree.tree_grpo_difference,
    "tree_rpo": tree.tree_rpo,
    "treepo": tree.treepo,
    "treepo_segment": lambda f, r: tree.treepo_segment(f, r, eta=0.9),
    "treepo_spo": tree.treepo_spo,
    "arpo_hard": tree.arpo_hard,
    "spo": tree.spo,
    "spo normalized": lambda f, r: tree.spo(f, r, edge="normalized", leave_one_out=True),
    "spo_pav": lambda f, r: tree.spo_pav(f, 1.0 / (1.0 + np.exp(r))),
    "outside_subtree": lambda f, r: tree.outside_subtree(f, r, climb="group").advantages,
    "outside_subtree children": lambda f, r: tree.outside_subtree(f, r, value="mean_of_children").advantages,
    "soft_values": lambda f, r: tree.soft_values(f, r, over="children"),
    "qlass": lambda f, r: tree.qlass(f, r, scale="min_max"),
    "deep_search": tree.deep_search,
    "regularized_policy": lambda f, r: tree.regularized_policy(
        f, mean_below(f, r), f.leaf_counts, 1.0 / (1.0 + np.exp(mean_below(f, r)))
    ),
    "uct": lambda f, r: tree.uct(f, mean_below(f, r), f.leaf_counts, parent_visits="siblings"),
    "puct": lambda f, r: tree.puct(f, mean_below(f, r), f.leaf_counts, np.exp(mean_below(f, r))),
    "frontier_score": lambda f, r: tree.frontier_score(f, mean_below(f, r)),
    **{f"credit {name}": lambda f, r, name=name: tree.credit(f, r, name).advantages for name in tree.PRESETS},
}


def mean_below(forest, rewards):
    return rm.ops.up(forest, rewards, how="leaf_mean")


def large():
    """90,000 nodes, past the size from which calls run in parallel, in trees of 300; three trees a prompt."""
    rng = np.random.default_rng(0)
    place = np.arange(90_000) % 300
    parents = np.where(place == 0, -1, np.arange(90_000) - 1 - (rng.random(90_000) * np.minimum(place, 9)).astype(int))
    forest = Forest.from_parents(parents, groups=np.arange(300) // 3)
    return forest, rng.normal(size=forest.n_leaves)


@pytest.fixture(scope="module")
def forests():
    forest, rewards = large()
    to = np.random.default_rng(1).permutation(forest.n_nodes)
    turned = np.empty_like(to)
    turned[to] = np.where(forest.parents < 0, -1, to[forest.parents])
    order = np.argsort(to[forest.roots])
    other = Forest.from_parents(turned, groups=forest.groups.index[order])
    by_node = np.zeros(len(to))
    by_node[to[forest.leaves]] = rewards
    rewards.setflags(write=False)  # no method writes into its input
    return forest, rewards, other, by_node[other.leaves], to


@pytest.mark.parametrize("name", METHODS)
def test_threads_and_numbering_change_no_bit(same_bits, forests, name):
    forest, rewards, other, turned, to = forests
    before = rm.num_threads()
    try:
        rm.set_num_threads(1)
        expected = METHODS[name](forest, rewards)
        for n in (2, 3):
            rm.set_num_threads(n)
            same_bits(METHODS[name](forest, rewards), expected)
        got = METHODS[name](other, turned)
    finally:
        rm.set_num_threads(before)
    if len(got) == forest.n_nodes:
        same_bits(got[to], expected)
    else:
        by_node = np.zeros(forest.n_nodes)
        by_node[other.leaves] = got
        same_bits(by_node[to[forest.leaves]], expected)
