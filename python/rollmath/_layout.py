"""How the nodes of a forest hang together and where their tokens are: what it was built from, read back."""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, Immutable, Kind, frozen, host_only
from rollmath._buffers import bits_of, output
from rollmath.groups import Groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray


class Spans(NamedTuple):
    """Where the tokens of each node are: row, start in the row, number; int64 ``[n_nodes]`` each."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]


class PruneReport(NamedTuple):
    """What was kept and dropped, in the numbers of the forest before, ascending; int64. ``print`` it for the counts."""

    kept_nodes: NDArray[np.int64]
    dropped_nodes: NDArray[np.int64]
    kept_rollouts: NDArray[np.int64]
    dropped_rollouts: NDArray[np.int64]
    dropped_trees: NDArray[np.int64]

    def __str__(self) -> str:
        nodes = len(self.kept_nodes) + len(self.dropped_nodes)
        rollouts = len(self.kept_rollouts) + len(self.dropped_rollouts)
        return (
            f"kept {len(self.kept_rollouts)} of {rollouts} rollouts and {len(self.kept_nodes)} of {nodes} nodes; "
            f"dropped trees: {len(self.dropped_trees)}"
        )


class Layout(Immutable):
    """The read-only arrays of a :class:`~rollmath.Forest`, each made when it is first asked for."""

    _preorder: _core.Preorder
    groups: Groups
    rewards: NDArray[np.float64] | None
    labels: tuple[Any, ...] | None
    report: Any

    @classmethod
    def _make(
        cls,
        core: _core.Preorder,
        groups: Groups,
        rewards: NDArray[np.float64] | None = None,
        labels: tuple[Any, ...] | None = None,
        report: Any = None,
    ) -> Self:
        made = cls.__new__(cls)
        rewards = None if rewards is None else frozen(rewards)
        made._fill(_preorder=core, groups=groups, rewards=rewards, labels=labels, report=report)
        return made

    @property
    def n_nodes(self) -> int:
        """Number of nodes, roots among them."""
        return len(self._preorder)

    @property
    def n_leaves(self) -> int:
        """Number of leaves, and so of rollouts."""
        return self._preorder.n_leaves

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return self._preorder.n_trees

    @cached_property
    def parents(self) -> NDArray[np.int64]:
        """Parent of each node, -1 for roots, ``[n_nodes]``."""
        return frozen(self._preorder.parents)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Nodes in depth-first preorder: trees and children by ascending id, ``[n_nodes]``."""
        return frozen(self._preorder.order)

    @cached_property
    def depth(self) -> NDArray[np.int64]:
        """Edges between each node and its root, ``[n_nodes]``."""
        return frozen(self._preorder.depth)

    @cached_property
    def leaves(self) -> NDArray[np.int64]:
        """Leaf (node id) of each rollout, ``[n_leaves]``."""
        return frozen(self._preorder.leaves)

    @cached_property
    def leaf_counts(self) -> NDArray[np.int64]:
        """Number of leaves below each node, 1 for a leaf, ``[n_nodes]``."""
        return frozen(self._preorder.leaf_counts)

    @cached_property
    def tree(self) -> NDArray[np.int64]:
        """Tree of each node, ``[n_nodes]``."""
        return frozen(self._preorder.tree)

    @cached_property
    def roots(self) -> NDArray[np.int64]:
        """Root (node id) of each tree, ascending, ``[n_trees]``."""
        return frozen(self._preorder.roots)

    @cached_property
    def siblings(self) -> Groups:
        """Nodes grouped by parent; the id of a group is the parent's. A root ``v`` is alone in a group ``-1 - v``."""
        parents = self.parents

        def name(node: int) -> int:
            return int(parents[node]) if parents[node] >= 0 else -1 - node

        return Groups._make(self._preorder.siblings("Forest.siblings"), name)

    @cached_property
    def node_trees(self) -> Groups:
        """Nodes grouped by tree; the id of a group is the number of the tree."""
        return Groups(self.tree)

    @cached_property
    def rollout_trees(self) -> Groups:
        """Rollouts grouped by tree; the id of a group is the number of the tree."""
        return Groups(self.tree[self.leaves])

    @cached_property
    def lengths(self) -> NDArray[np.int64] | None:
        """Number of tokens of each node, ``[n_nodes]``; None if the forest was built without."""
        lengths = self._preorder.lengths
        return lengths if lengths is None else frozen(lengths)

    @cached_property
    def spans(self) -> Spans | None:
        """Where the tokens of each node are; None if the forest was built without."""
        places, lengths = self._preorder.places, self.lengths
        if places is None or lengths is None:
            return None
        return Spans(frozen(places[0]), frozen(places[1]), lengths)


def token_output(
    who: str, out: Any, offsets: NDArray[np.int64], kind: Kind, like: NDArray[Any]
) -> tuple[Array, NDArray[Any]]:
    """Where to write the values of tokens, given or new, and its bits."""
    if isinstance(out, Ragged):
        if not np.array_equal(out.offsets, offsets):
            msg = (
                f"{who}(): 'out' must have the rows of the result, {len(offsets) - 1} with {offsets[-1]} tokens in all"
            )
            raise ValueError(f"{msg}, got {out!r}")
        out = out.values
    if out is not None:
        host_only(who, "out", out)
    empty: Array = np.empty(0, like.dtype)
    if kind.is_torch:
        empty = sys.modules["torch"].from_numpy(empty)
    try:
        values = output(who, out, (int(offsets[-1]),), empty)
    except MemoryError as cause:
        msg = f"{who}(): 'forest' has more tokens to write than memory holds, {offsets[-1]}"
        raise ValueError(msg) from cause
    return values, bits_of(who, "out", values)
