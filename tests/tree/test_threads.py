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
}


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
