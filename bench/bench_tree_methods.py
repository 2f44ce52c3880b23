"""Advantages on trees: SPO, TreeRL, Tree-GRPO and TreePO on a million nodes, and one deep tree."""

import numpy as np
import pytest

import rollmath as rm
from bench import alternatives, tree_alternatives, tree_methods
from bench.machine import THREADS
from bench.measure import cases

NUMBA = {
    "spo": lambda x: tree_alternatives.edges_numba(x.parents, x.leaves, x.rewards, False),
    "tree_rl": lambda x: tree_methods.tree_rl_numba(x.parents, x.leaves, x.rewards, x.prompt, x.groups[-1] + 1),
    "tree_grpo": lambda x: tree_methods.tree_grpo_numba(x.rewards, x.prompt, x.tree, x.groups[-1] + 1, len(x.groups)),
    "treepo": lambda x: tree_methods.treepo_numba(x.parents, x.leaves, x.rewards, x.prompt, x.groups[-1] + 1),
}
SHAPES = {"balanced": "trees of 6-6-6", "mixed": "random trees of 30 to 600"}


def method(name, x, provider):
    """The call to time. Nested dicts and forests are given; a forest keeps its groups from the first call on, which is
    not timed."""
    if provider == "rollmath":
        forest = rm.Forest.from_parents(x.parents, groups=x.groups)
        return lambda: getattr(rm.tree, name)(forest, x.rewards)
    if provider == "numba":
        if alternatives.numba is None:
            pytest.skip("numba is not installed")
        return lambda: NUMBA[name](x)
    if name == "spo":
        roots = [tree for trees in tree_methods.nested(x) for tree in trees]
        return lambda: tree_alternatives.edges_recursion(roots, len(x.parents), False)
    return tree_methods.recursion(name, x)


@cases(rollmath=THREADS, numba=1, python_recursion=1)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", list(NUMBA))
def test_tree_method(measure, quick, provider, threads, shape, name):
    x = tree_methods.planted(shape, 10_000 if quick else 1_000_000)
    measure(
        f"{name}_{shape}", provider, method(name, x, provider),
        shape=f"{len(x.parents)} nodes in {SHAPES[shape]}, two a prompt", dtype="float64", expected=x.expected[name],
        rtol=1e-9, threads=threads,
    )  # fmt: skip


@cases(rollmath=1, python_walk=1)
def test_deep_tree(measure, quick, provider, threads):
    parents, rewards = tree_methods.comb(200 if quick else 2000)
    walk, forest = tree_methods.walk_again(parents, rewards), rm.Forest.from_parents(parents)
    call = {"rollmath": lambda: rm.tree.tree_grpo_difference(forest, rewards), "python walk": walk}[provider]
    counts = np.append(np.arange(len(rewards), 0, -1), 1)
    means = np.cumsum(rewards[::-1])[::-1] / counts[:-1]
    expected = np.zeros(len(parents))
    spine, gain = parents[1::2][1:], lambda mine, above: np.maximum(mine - above - 0.1, 0) + mine
    expected[spine] = gain(means[1:], means[:-1]) / np.sqrt(counts[1:-1])
    expected[1::2] = gain(rewards, means)
    measure(
        "deep_tree", provider, call, shape=f"one path with a leaf at each step, {len(parents)} nodes", dtype="float64",
        expected=expected, rtol=1e-9, threads=threads,
    )  # fmt: skip
