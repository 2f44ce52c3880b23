"""Where the trained tokens of rows are in packed and padded arrays, in pieces that fit the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._columns import flat_positions
from rollmath.rows import Rows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: Trained tokens of a piece: a dozen float32 temporaries of it stay in the cache of a core.
PIECE = 1 << 18


def check_shape(who: str, name: str, rows: Rows, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless ``shape`` is packed ``[positions]`` or padded ``[n_rows, T]``."""
    total, width = int(rows.offsets[-1]), int(rows.lengths.max(initial=0))
    if shape != (total,) and not (len(shape) == 2 and shape[0] == rows.n_rows and shape[1] >= width):
        msg = (
            f"{who}(): {name!r} must have shape ({total},) (= positions of rows) or ({rows.n_rows}, T) with T of at "
            f"least {width} (= the longest row), got {shape}"
        )
        raise ValueError(msg)


def check_offsets(who: str, name: str, rows: Rows, offsets: torch.Tensor | None) -> None:
    """Raises ValueError unless the offsets of a jagged tensor are those of the rows.

    Offsets on another device are not looked at: that would wait for it.
    """
    if offsets is not None and offsets.device.type == "cpu" and not np.array_equal(offsets.numpy(), rows.offsets):
        lengths = offsets.diff().numpy()
        if len(lengths) != rows.n_rows:
            found = f"{len(lengths)} rows, not {rows.n_rows}"
        else:
            at = int(np.flatnonzero(lengths != rows.lengths)[0])
            found = f"{lengths[at]} positions in row {at}, not {rows.lengths[at]}"
        msg = f"{who}(): {name!r} as a jagged tensor must have the offsets of the rows, got {found}"
        raise ValueError(msg)


@dataclass(frozen=True)
class Piece:
    """Some whole rows: a range of them, or any list."""

    rows: Rows
    picked: range | NDArray[np.int64]

    @cached_property
    def index(self) -> NDArray[np.int64]:
        """The rows as an array."""
        return np.asarray(self.picked, np.int64)

    @cached_property
    def trained(self) -> NDArray[np.int64]:
        """Trained tokens of each row."""
        return self.rows.trained[self.index]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Positions of each row."""
        return self.rows.lengths[self.index]

    @cached_property
    def rollout(self) -> NDArray[np.int64]:
        """The rollout of each row, numbered within the piece."""
        return np.unique(self.rows.rollouts.index[self.index], return_inverse=True)[1].astype(np.int64)

    @cached_property
    def _packed(self) -> slice | NDArray[np.int64]:
        rows, picked = self.rows, self.picked
        mask, whole = rows.mask, int(self.trained.sum()) == int(self.lengths.sum())
        if not isinstance(picked, range):
            positions = flat_positions(rows.offsets, picked)
            return positions if whole or mask is None else positions[mask[positions] != 0]
        start, stop = (int(rows.offsets[i]) for i in (picked.start, picked.stop))
        if whole or mask is None:
            return slice(start, stop)
        return start + np.flatnonzero(mask[start:stop])

    def at(self, shape: tuple[int, ...]) -> slice | NDArray[np.int64]:
        """The trained tokens in a flattened array of a shape that :func:`check_shape` let pass."""
        if len(shape) == 1:
            return self._packed
        picked, width = self.picked, shape[1]
        if isinstance(picked, range) and (self.trained == width).all():
            return slice(picked.start * width, picked.stop * width)
        packed = self._packed
        if isinstance(packed, slice):
            packed = np.arange(packed.start, packed.stop)
        return packed + np.repeat(self.index * width - self.rows.offsets[self.index], self.trained)

    @cached_property
    def runs(self) -> Runs:
        """Turns, and the gaps between them."""
        return runs_of(self.rows, self.index)


class Runs(NamedTuple):
    """Runs of positions of one row that are all trained (a turn) or all gaps.

    Attributes:
        lengths: positions of each run, gaps too.
        inside: trained tokens of each of them: all or 0.
        trained: lengths of the turns alone.
        turns: number of turns of each row.
    """

    lengths: NDArray[np.int64]
    inside: NDArray[np.int64]
    trained: NDArray[np.int64]
    turns: NDArray[np.int64]


def runs_of(rows: Rows, index: NDArray[np.int64]) -> Runs:
    """The runs of some rows, row after row."""
    lengths = rows.lengths[index]
    if rows.mask is None:
        runs = lengths[lengths > 0]
        return Runs(runs, runs, runs, (lengths > 0).astype(np.int64))
    mask = rows.mask[flat_positions(rows.offsets, index)] != 0
    ends = np.cumsum(lengths)
    starts = np.zeros(len(mask) + 1, bool)
    starts[np.concatenate([[0], ends]).astype(np.int64)] = True
    starts[1:-1] |= mask[1:] != mask[:-1]
    at = np.flatnonzero(starts)
    runs, trained = np.diff(at), mask[at[:-1]]
    row = np.searchsorted(ends, at[:-1], side="right")
    turns = np.bincount(row[trained], minlength=len(index))
    return Runs(runs, runs * trained, runs[trained], turns)


def pieces(rows: Rows, *, whole_rollouts: bool) -> Iterator[Piece]:
    """The rows in pieces of about ``PIECE`` trained tokens, those of a rollout together if asked for.

    Rows without a trained token may be left out.
    """
    counts = rows.trained
    if whole_rollouts and rows.n_rollouts < rows.n_rows:
        order = rows.rollouts.order
        ends = rows.rollouts.offsets[1:]
    else:
        order, ends = None, np.arange(1, rows.n_rows + 1)
    total = np.cumsum(counts if order is None else counts[order])
    start = 0
    while start < rows.n_rows:
        done = int(total[start - 1]) if start else 0
        fits = int(np.searchsorted(total[ends - 1], done + PIECE, side="right"))
        # At least one row or rollout, however long it is.
        first = int(np.searchsorted(ends, start, side="right"))
        stop = int(ends[max(fits - 1, first)])
        if total[stop - 1] > done:
            yield Piece(rows, range(start, stop) if order is None else order[start:stop])
        start = stop
