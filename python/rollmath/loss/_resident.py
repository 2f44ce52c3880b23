"""Columns of rows on a device, moved there once."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from rollmath.loss._everything import Everything
from rollmath.loss._places import Piece
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How many different columns of weights are kept: those of the aggregations of one trainer.
_KEPT = 4


class Resident:
    """What a kernel reads of rows, packed or padded, on a device."""

    def __init__(self, rows: Rows, shape: tuple[int, ...], device: torch.device) -> None:
        # Rows live as long as what is kept of them here, so only their columns are held.
        self.shape, self.device = shape, device
        self.trained = int(rows.trained.sum())
        self._row = _row_of_position(rows, shape)
        self.masked = self.trained < len(self._row)
        index = rows.rollouts.index
        self.aligned = bool((index == np.arange(rows.n_rows)).all())
        self._rollout = index
        self._live = rows.trained > 0
        self._weights: dict[bytes, torch.Tensor | float] = {}
        self._version: torch.Tensor | None = None

    @cached_property
    def row(self) -> torch.Tensor:
        """The row of each position, int32, -1 where nothing is trained."""
        return self._moved(self.__dict__.pop("_row"))

    @cached_property
    def rollout(self) -> torch.Tensor:
        """The rollout of each row, int32."""
        return self._moved(self.__dict__.pop("_rollout").astype(np.int32))

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
        if self._version is None:
            assert rows.version is not None
            self._version = Everything(rows, self.shape, self.device).version(rows.version)
        return self._version

    def _moved(self, x: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(x)).to(self.device, non_blocking=True)


def resident(rows: Rows, shape: tuple[int, ...], device: torch.device) -> Resident:
    """What is on the device of these rows, which goes when they go."""
    here = _ALL.setdefault(rows, {})
    key = shape[1:], device
    if key not in here:
        here[key] = Resident(rows, shape, device)
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
