"""All positions of a call at once, gaps and padding too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from rollmath.loss._places import Piece, runs_of
from rollmath.loss._spans import Spans
from rollmath.loss._values import Values, on
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Everything:
    """All positions of a call, packed or padded, on a device."""

    def __init__(self, rows: Rows, shape: tuple[int, ...], device: torch.device) -> None:
        self.rows, self.shape, self.device = rows, shape, device
        self._mask: tuple[torch.Tensor | None] | None = None
        width = shape[1] if len(shape) == 2 else None
        self.lengths = rows.lengths if width is None else np.full(rows.n_rows, width)
        self.spans = Spans(self.lengths, rows.trained, lambda: rows.rollouts.index, self.runs, device, width)

    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions and trained tokens of each turn, gap and padding."""
        runs = runs_of(self.rows, np.arange(self.rows.n_rows))
        if len(self.shape) == 1:
            return runs.lengths, runs.inside
        # Padding is one more run at the end of each row.
        ends = np.searchsorted(np.cumsum(runs.lengths), np.cumsum(self.rows.lengths), side="left") + 1
        ends[np.cumsum(self.rows.lengths) == 0] = 0
        return np.insert(runs.lengths, ends, self.lengths - self.rows.lengths), np.insert(runs.inside, ends, 0)

    def mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """1.0 where trained, or None if everything is."""
        if self._mask is None or (self._mask[0] is not None and self._mask[0].dtype != dtype):
            self._mask = (self._made(dtype),)
        return self._mask[0]

    def _made(self, dtype: torch.dtype) -> torch.Tensor | None:
        rows = self.rows
        if int(rows.trained.sum()) == int(self.lengths.sum()):
            return None
        if len(self.shape) == 1:
            inside = rows.mask
        elif rows.mask is None:
            lengths = on(rows.lengths, torch.empty(0, device=self.device))
            return (torch.arange(self.shape[1], device=self.device) < lengths[:, None]).reshape(-1).to(dtype)
        else:
            inside = np.zeros(int(self.lengths.sum()), np.uint8)
            inside[Piece(rows, range(rows.n_rows)).at(self.shape)] = 1
        return (torch.from_numpy(np.array(inside)).to(self.device, non_blocking=True) != 0).to(dtype)

    def column(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """One number a position, flat and without gradient, 0 where nothing is trained."""
        x, mask = x.detach().reshape(-1).to(dtype), self.mask(dtype)
        # What is behind the mask may be NaN, which no multiplication by 0 takes away.
        return x if mask is None else torch.where(mask != 0, x, 0)

    def spread_rows(self, x: NDArray[np.float64], like: torch.Tensor) -> torch.Tensor:
        """One number a row for each position, 0 where nothing is trained."""
        per = torch.from_numpy(x).to(like.dtype).to(like.device, non_blocking=True)
        spread, mask = self.spans.spread(per, "row"), self.mask(like.dtype)
        return spread if mask is None else spread * mask

    def values(self, source: Values, like: torch.Tensor) -> torch.Tensor:
        """Constants for each position, 0 where nothing is trained."""
        if source.level in {"rollout", "row"}:
            found = self.spans.spread(source.per_row(like), "row")
        elif source.level == "token" and tuple(source.values.shape) == self.shape:
            found = source.narrow(source.values.reshape(-1), like)
        else:
            everything = Piece(self.rows, range(self.rows.n_rows))
            where, found = everything.at(self.shape), source.at(everything, like)
            if isinstance(where, slice):
                return found
            return like.new_zeros(int(self.lengths.sum())).index_copy(0, on(where, like), found)
        mask = self.mask(like.dtype)
        return found if mask is None else torch.where(mask != 0, found, 0)

    def version(self, column: Ragged) -> torch.Tensor:
        """The policy version of each position, -1 in padding."""
        values = column.values
        if len(self.shape) == 2:
            padded = np.full(int(self.lengths.sum()), -1, np.int64)
            all_trained = Rows(self.rows.rollouts, self.rows.lengths)
            padded[Piece(all_trained, range(self.rows.n_rows)).at(self.shape)] = values
            values = padded
        return torch.from_numpy(np.array(values)).to(self.device, non_blocking=True)
