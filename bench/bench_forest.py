"""Forests: the trie of token sequences, and edge advantages on trees."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import rollmath as rm
from bench import alternatives, inputs, tree_alternatives
from bench.machine import THREADS, pieces
from bench.measure import cases
from bench.peers import graphs


@cases(probe_read_once=THREADS, rollmath=THREADS, numpy_sorted_rows=1, python_dict=1)
@pytest.mark.parametrize(("name", "prompts", "length"), [("8", 8, 4096), ("64", 64, 4096), ("long_8", 8, 32768)])
def test_trie(measure, quick, provider, threads, name, prompts, length):
    length = length // 16 if quick else length
    data = inputs.sequences(prompts, 64, length)
    tokens, (rows, _) = data.tokens, data.tokens.shape
    if provider == "python dict" and name != "8":
        pytest.skip("gigabytes; measured with 8 prompts")
    flat, offsets = tokens.ravel(), np.arange(rows + 1) * length
    lists = tokens.tolist() if provider == "python dict" else []
    parts = pieces(flat, threads)
    view, expected = (lambda x: x), data.unique
    with ThreadPoolExecutor(threads) as pool:
        call = {
            "probe read once": lambda: max(pool.map(np.max, parts)),
            "rollmath": lambda: rm.Forest.from_sequences(flat, offsets, groups=data.groups),
            "numpy sorted rows": lambda: alternatives.trie_sorted(tokens, data.groups),
            "python dict": lambda: alternatives.trie_dict(lists, data.groups.tolist()),
        }[provider]
        if provider == "rollmath":
            view, expected = (lambda f: (f.n_leaves, len(f.token_index))), (rows, data.unique)
        if provider == "probe read once":
            expected = tokens.max()
        shape = f"{rows} x {length} tokens, {prompts} prompts, half of each sequence shared"
        measure(
            f"trie_{name}_prompts", provider, call, shape=shape, dtype="int32", expected=expected, view=view,
            threads=threads,
        )  # fmt: skip


def edges(trees, provider, edge, size):
    """The call to time. Graphs, nested dicts and forests are given, but for "with build"; a forest keeps its siblings
    from the first call on, which is not timed.
    """
    normalized = edge == "normalized"
    if provider == "rollmath":
        forest = rm.Forest.from_parents(trees.parents)
        return lambda: rm.tree.spo(forest, trees.rewards, edge=edge)
    if provider == "rollmath with build":
        return lambda: rm.tree.spo(rm.Forest.from_parents(trees.parents), trees.rewards, edge=edge)
    if provider == "numba":
        if alternatives.numba is None:
            pytest.skip("numba is not installed")
        return lambda: tree_alternatives.edges_numba(trees.parents, trees.leaves, trees.rewards, normalized)
    if provider == "numpy levels":
        return lambda: tree_alternatives.edges_levels(trees, normalized)
    if provider == "python recursion":
        roots = tree_alternatives.nested(trees)
        return lambda: tree_alternatives.edges_recursion(roots, size, normalized)
    return getattr(graphs, provider)(trees, normalized=normalized)


@cases(
    rollmath=THREADS, rollmath_with_build=THREADS, numba=1, numpy_levels=1, python_recursion=1, rustworkx=1, networkx=1
)
@pytest.mark.parametrize("edge", ["difference", "normalized"])
def test_edges(measure, quick, provider, threads, edge):
    trees = inputs.trees(39 if quick else 3861, (6, 6, 6))
    size = len(trees.parents)
    expected = trees.difference if edge == "difference" else trees.normalized
    measure(
        f"edges_{edge}", provider, edges(trees, provider, edge, size), shape=f"{size} nodes in trees of 6-6-6",
        dtype="float64", expected=expected, rtol=1e-9, threads=threads,
    )  # fmt: skip


@cases(rollmath=1, numba=1)
def test_chain(measure, quick, provider, threads):
    """One chain: nothing may recurse, and nothing may be quadratic."""
    size = 10_000 if quick else 1_000_000
    parents = np.arange(-1, size - 1)
    reward, leaf = np.array([0.5]), np.array([size - 1])
    if provider == "numba" and alternatives.numba is None:
        pytest.skip("numba is not installed")
    call = {
        "rollmath": lambda: rm.tree.spo(rm.Forest.from_parents(parents), reward),
        "numba": lambda: tree_alternatives.edges_numba(parents, leaf, reward, False),
    }[provider]
    measure(
        "chain", provider, call, shape=f"one chain of {size} nodes, built and reduced", dtype="float64",
        expected=np.zeros(size), rtol=1e-12, threads=threads,
    )  # fmt: skip
