"""Edge advantages on trees with graph libraries: their order of nodes, their predecessors. The build is not timed."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from bench.inputs import Trees
from bench.tree_alternatives import EPS


def _edges(order: list[int], children: Callable[[int], Iterable[int]], trees: Trees, *, normalized: bool) -> np.ndarray:
    """Up over ``order`` reversed, then down."""
    size = len(trees.parents)
    values, out = [0.0] * size, [0.0] * size
    for leaf, reward in zip(trees.leaves.tolist(), trees.rewards.tolist(), strict=True):
        values[leaf] = reward
    for node in reversed(order):
        below = list(children(node))
        if not below:
            continue
        scores = [values[child] for child in below]
        mean = values[node] = sum(scores) / len(scores)
        scale = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5 + EPS if normalized else 1.0
        for child in below:
            out[child] = (values[child] - mean) / scale
    return np.array(out)


def _pairs(trees: Trees) -> list[tuple[int, int]]:
    below = np.nonzero(trees.parents >= 0)[0]
    return list(zip(trees.parents[below].tolist(), below.tolist(), strict=True))


def networkx(trees: Trees, *, normalized: bool) -> Callable[[], np.ndarray]:
    nx = pytest.importorskip("networkx", reason="networkx is not installed")
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(trees.parents)))
    graph.add_edges_from(_pairs(trees))
    return lambda: _edges(list(nx.topological_sort(graph)), graph.successors, trees, normalized=normalized)


def rustworkx(trees: Trees, *, normalized: bool) -> Callable[[], np.ndarray]:
    rx = pytest.importorskip("rustworkx", reason="rustworkx is not installed")
    graph = rx.PyDiGraph()
    graph.add_nodes_from(range(len(trees.parents)))
    graph.add_edges_from_no_data(_pairs(trees))
    return lambda: _edges(list(rx.topological_sort(graph)), graph.successor_indices, trees, normalized=normalized)
