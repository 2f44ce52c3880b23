"""Columns of rows on a device, moved there once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch

from rollmath.loss._everything import Everything
from rollmath.loss._places import Piece
from rollmath.loss._spans import Level
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How many different columns of weights are kept: those of the aggregations of one trainer.
_KEPT = 4


class Segments(NamedTuple):
    """Rows, rollouts or turns: trained tokens of each, and the runs of positions ``runs[i] .. runs[i + 1]`` of it."""

    sizes: torch.Tensor
    runs: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor


class Resident:
    """What a kernel reads of rows, packed or padded, on a device."""

    def __init__(self, rows: Rows, shape: tuple[int, ...], device: torch.device) -> None:
        # Rows live as long as what is kept of them here, so only their columns are held.
        self.shape, self.device = shape, device
        self.trained = int(rows.trained.sum())
        # Not by how many are trained, so that batches of a kind have one kernel.
        self.masked = len(shape) == 2 or rows.mask is not None
        self.aligned = bool((rows.rollouts.index == np.arange(rows.n_rows)).all())
        self._live = rows.trained > 0
        self._weights: dict[bytes, torch.Tensor | float] = {}
        self._columns: dict[str, torch.Tensor] = {}
        self._segments: dict[str, Segments] = {}
        self._versions: NDArray[Any] | None = None
        self._captured: dict[bytes, torch.Tensor | float] = {}
        self._stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def meet(self) -> None:
        """Makes the stream of now wait for the one that moved the columns, and these outlive what it does with them.

        In a graph, which is captured on a stream of its own, that is up to who captures.
        """
        if self._stream is None:
            return
        if torch.cuda.is_current_stream_capturing():
            self._captured |= self._weights
            return
        now = torch.cuda.current_stream(self.device)
        if now != self._stream:
            now.wait_stream(self._stream)
            for x in (*self._weights.values(), *self._columns.values(), *chain(*self._segments.values())):
                if isinstance(x, torch.Tensor):
                    x.record_stream(now)
            self._stream = now

    def row(self, rows: Rows) -> torch.Tensor:
        """The row of each position, int32, -1 where nothing is trained."""
        return self._once("row", lambda: _row_of_position(rows, self.shape))

    def rollout(self, rows: Rows) -> torch.Tensor:
        """The rollout of each row, int32."""
        return self._once("rollout", lambda: rows.rollouts.index.astype(np.int32))

    def weights(self, weights: NDArray[np.float64]) -> torch.Tensor | float:
        """The weight of a token of each row, or of all trained ones, as a column that is not moved twice."""
        key = weights.tobytes()
        if key not in self._weights:
            while len(self._weights) >= _KEPT:
                del self._weights[next(iter(self._weights))]
            live = weights[self._live]
            same = len(live) == 0 or bool((live == live[0]).all())
            one = float(live[0]) if len(live) else 0.0
            self._weights[key] = one if same else self._moved(weights.astype(np.float32))
        return self._weights[key]

    def version(self, rows: Rows) -> torch.Tensor:
        """The policy version of each position, int64."""
        assert rows.version is not None
        # Of all columns only this one is not a copy of what was given, and may be written to.
        if self._versions is None or not np.array_equal(self._versions, rows.version.values):
            self._versions = np.array(rows.version.values)
            moved = Everything(rows, self.shape, self.device).version(rows.version)
            # Where it was, for graphs that have captured that.
            self._columns.setdefault("version", moved).copy_(moved)
        return self._columns["version"]

    def segments(self, rows: Rows, level: Level) -> Segments:
        """The segments of a level and the runs of positions of each, all positions in all."""
        if level not in self._segments:
            starts, ends, sizes = _runs_of(rows, self.shape, level)
            each = np.arange(len(starts) + 1)
            if level == "rollout":
                order = rows.rollouts.order
                starts, ends, each = starts[order], ends[order], rows.rollouts.offsets
                sizes = rows.trained_of_rollout
            if len(sizes) == 0:
                sizes, each = np.zeros(1, np.int64), np.zeros(2, np.int64)
            self._segments[level] = Segments(*map(self._moved, (sizes, each, starts, ends)))
        return self._segments[level]

    def _once(self, name: str, make: Callable[[], NDArray[Any]]) -> torch.Tensor:
        if name not in self._columns:
            self._columns[name] = self._moved(make())
        return self._columns[name]

    def _moved(self, x: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(x)).to(self.device, non_blocking=True)


def resident(rows: Rows, shape: tuple[int, ...], device: torch.device) -> Resident:
    """What is on the device of these rows, which goes when they go."""
    here = _ALL.setdefault(rows, {})
    key = shape[1:], device
    if key not in here:
        here[key] = Resident(rows, shape, device)
    here[key].meet()
    return here[key]


_ALL: WeakKeyDictionary[Rows, dict[Any, Resident]] = WeakKeyDictionary()


def _row_of_position(rows: Rows, shape: tuple[int, ...]) -> NDArray[np.int32]:
    every = np.arange(rows.n_rows, dtype=np.int32)
    if len(shape) == 1:
        packed = np.repeat(every, rows.lengths)
        if rows.mask is not None:
            packed[rows.mask == 0] = -1
        return packed
    padded = np.full(shape[0] * shape[1], -1, np.int32)
    padded[Piece(rows, range(rows.n_rows)).at(shape)] = np.repeat(every, rows.trained)
    return padded


def _runs_of(rows: Rows, shape: tuple[int, ...], level: Level) -> tuple[NDArray[np.int64], ...]:
    """First position, end and trained tokens of each row, or of each turn and gap."""
    if level == "turn":
        lengths, sizes = Everything(rows, shape, torch.device("cpu")).runs()
    else:
        lengths, sizes = rows.lengths if len(shape) == 1 else np.full(rows.n_rows, shape[1]), rows.trained
    ends = np.cumsum(lengths)
    return ends - lengths, ends, sizes
