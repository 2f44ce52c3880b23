"""Where a tree search goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._checks import whole
from rollmath.forest import Forest, as_forest
from rollmath.ops._random import generator, uniform

if TYPE_CHECKING:
    from numpy.typing import NDArray


def expansion_nodes(forest: Forest, *, n: int, seed: int) -> NDArray[np.int64]:
    """Nodes of each tree to sample on from, as Tree-GRPO draws them: ``P(v) = 1 / (inner nodes of the tree)``.

    Uniformly and with replacement, from the root and all nodes that are not leaves. (TreeRL goes on from the most
    surprising tokens instead: cut the rollouts there, and grow the forest at the cuts.)

    Args:
        forest: a :class:`~rollmath.Forest`.
        n: nodes to draw from each tree.
        seed: whole number of at least 0; another in every draw.

    Returns:
        Node ids, int64 ``[n_trees, n]``, in the order of ``forest.roots``. A tree of its root alone gives that root.

    Raises:
        ValueError: ``n`` or ``seed`` is negative.
        TypeError: no whole number.

    Source: Tree-GRPO, arXiv 2509.21240, official code read (2 nodes a tree in its script).

    >>> expansion_nodes(Forest.from_parents([-1, 0, 0, 1, -1]), n=3, seed=1).tolist()
    [[1, 1, 0], [4, 4, 4]]
    """
    who = "expansion_nodes"
    made = as_forest(who, forest)
    size, bits = whole(who, "n", n, least=0), generator(who, seed)
    inner = np.ones(made.n_nodes, bool)
    inner[made.leaves] = False
    inner[made.roots] = True
    nodes = np.flatnonzero(inner)
    nodes = nodes[np.argsort(made.tree[nodes], kind="stable")]
    counts = np.bincount(made.tree[nodes], minlength=made.n_trees)[:, None]
    pick = np.floor(uniform(bits, made.n_trees * size).reshape(made.n_trees, size) * counts).astype(np.int64)
    out: NDArray[np.int64] = nodes[np.cumsum(counts)[:, None] - counts + np.minimum(pick, counts - 1)]
    return out
