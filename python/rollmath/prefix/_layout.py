"""Which tokens a prefix-tree batch has and how they hang together: its read-only arrays."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Immutable, frozen
from rollmath.forest import Forest

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Saved(NamedTuple):
    """Tokens of the rollouts, tokens of the batch, and the share of the first that the model need not see.

    ``flat_per_tree`` and ``packed_per_tree`` are int64 ``[n_trees]``, in the order of the batch's trees.
    """

    flat: int
    packed: int
    share: float
    flat_per_tree: NDArray[np.int64]
    packed_per_tree: NDArray[np.int64]


class Layout(Immutable):
    """The arrays of a :class:`~rollmath.prefix.PrefixBatch`, each made when it is first asked for."""

    forest: Forest
    trees: NDArray[np.int64]

    @cached_property
    def _packed(self) -> tuple[NDArray[Any], ...]:
        found = _core.forest_pack("PrefixBatch", self.forest._preorder, self.trees)
        return tuple(frozen(x) for x in found)

    def _rows(self, *, include_root: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Rollouts, the packed positions of their tokens, and offsets."""
        name = "_full_rows" if include_root else "_own_rows"
        if name not in self.__dict__:
            found = _core.forest_rollout_tokens("PrefixBatch", self.forest._preorder, self.trees, include_root)
            self.__dict__[name] = tuple(frozen(x) for x in found)
        rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] = self.__dict__[name]
        return rows

    @property
    def n_tokens(self) -> int:
        """Number of packed tokens."""
        return int(self._sizes[1].sum())

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return len(self.trees)

    @property
    def n_rollouts(self) -> int:
        """Number of rollouts."""
        return len(self.rollouts)

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return len(self.targets)

    @property
    def index(self) -> NDArray[np.int64]:
        """Flat position of each packed token, in one of the rollouts that share it; int64 ``[n_tokens]``."""
        return self._packed[0]

    @property
    def positions(self) -> NDArray[np.int32]:
        """Tokens before each packed token in its rollouts, which a model wants as position ids; int32."""
        return self._packed[1]

    @property
    def end(self) -> NDArray[np.int32]:
        """The packed position after the last descendant of each token; int32 ``[n_tokens]``."""
        return self._packed[2]

    @property
    def previous(self) -> NDArray[np.int32]:
        """The packed token before each token on its path, -1 at the first token of a rollout; int32 ``[n_tokens]``."""
        return self._packed[3]

    @cached_property
    def rollouts(self) -> NDArray[np.int64]:
        """The rollouts (sequences) of these trees, by their number in the forest, ascending: the rows of gather."""
        return self._rows(include_root=False)[0]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Where each rollout starts in what :meth:`gather` returns, ``[n_rollouts + 1]``: those of its rows."""
        return self._rows(include_root=False)[2]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each rollout without the prompt, int64 ``[n_rollouts]``."""
        return frozen(np.diff(self.offsets))

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """The packed tokens that are predicted, ascending; int64 ``[n_targets]``."""
        _, _, _, previous, nodes, starts = self._packed
        answers = np.repeat(self.forest.parents[nodes] >= 0, np.diff(starts))
        return frozen(np.flatnonzero(answers & (previous >= 0)))

    @cached_property
    def sources(self) -> NDArray[np.int64]:
        """The packed token whose output predicts each target: ``previous[targets]``, int64 ``[n_targets]``."""
        return frozen(self.previous[self.targets].astype(np.int64))

    @cached_property
    def _target_index(self) -> NDArray[np.int64]:
        return frozen(self.index[self.targets])

    @cached_property
    def _target_rows(self) -> NDArray[np.int64]:
        """The number of the target at each position of the rollouts; ``n_targets`` where nothing predicts the token."""
        number = np.full(self.n_tokens, self.n_targets)
        number[self.targets] = np.arange(self.n_targets)
        return frozen(number[self._rows(include_root=False)[1]])

    @cached_property
    def _sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Flat and packed tokens of each tree."""
        forest, lengths = self.forest, self.forest.lengths
        if lengths is None:  # pack has looked
            lengths = np.zeros(forest.n_nodes, np.int64)
        table = np.zeros((2, forest.n_trees), np.int64)
        np.add.at(table[0], forest.tree, lengths * forest.leaf_counts)
        np.add.at(table[1], forest.tree, lengths)
        return frozen(table[0][self.trees]), frozen(table[1][self.trees])

    @property
    def saved(self) -> Saved:
        """How many tokens the model need not see.

        >>> from rollmath.prefix import pack
        >>> tokens = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 6, 7]
        >>> saved = pack(Forest.from_sequences(tokens, [0, 4, 7, 11, 12], groups=["a"] * 4)).saved
        >>> saved.flat, saved.packed, round(saved.share, 6)
        (12, 7, 0.416667)
        """
        flat, packed = self._sizes
        total, seen = int(flat.sum()), int(packed.sum())
        return Saved(total, seen, 1 - seen / total if total else 0.0, flat, packed)

    @property
    def _own(self) -> NDArray[np.int64]:
        return self._rows(include_root=False)[1]

    @property
    def _full(self) -> NDArray[np.int64]:
        return self._rows(include_root=True)[1]

    @property
    def _range(self) -> NDArray[np.int32]:
        return np.arange(self.n_tokens, dtype=np.int32)

    @cached_property
    def _unpredicted(self) -> bool:
        """Whether the rollouts have tokens that nothing predicts."""
        _, _, _, _, nodes, starts = self._packed
        return int(np.diff(starts)[self.forest.parents[nodes] >= 0].sum()) > self.n_targets
