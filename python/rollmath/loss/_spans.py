"""Spans: the rows, rollouts and turns that some tokens belong to, for reductions and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from rollmath.ops import expand

if TYPE_CHECKING:
    from numpy.typing import NDArray

Level: TypeAlias = Literal["row", "rollout", "turn"]
How: TypeAlias = Literal["sum", "mean", "max"]


class Spans:
    """How the positions of a call fall into rows, turns and rollouts.

    Positions are the trained tokens of some rows in order, or all positions of the rows where ``mask`` tells the
    trained ones.

    Attributes:
        lengths: positions of each row.
        width: the length that all rows share, where they are a padded matrix; else None.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        trained: NDArray[np.int64],
        rollout: Callable[[], NDArray[np.int64]],
        runs: Callable[[], tuple[NDArray[np.int64], NDArray[np.int64]]],
        device: torch.device,
        width: int | None = None,
    ) -> None:
        """What rows and turns are; ``rollout`` and ``runs`` are called when they are asked for.

        ``rollout()`` has the rollout of each row, numbered from 0; ``runs()`` the positions and the trained tokens of
        each turn, of gaps too, which have 0 of the latter.
        """
        self.lengths, self._trained, self._make_rollout, self._make_runs = lengths, trained, rollout, runs
        self.device, self.width = device, width
        self._on: dict[str, torch.Tensor] = {}

    @classmethod
    def none(cls, device: torch.device) -> Spans:
        """No rows."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, lambda: empty, lambda: (empty, empty), device)

    @property
    def rollouts(self) -> int:
        """Number of rollouts."""
        return int(self._rollout.max(initial=-1)) + 1

    def sizes(self, level: Level) -> torch.Tensor:
        """Trained tokens of each row, rollout or turn, float64."""
        return self._cached(f"sizes {level}", lambda: self._sizes(level).astype(np.float64))

    def _sizes(self, level: Level) -> NDArray[np.int64]:
        if level == "turn":
            return self._runs[1]
        if level == "row":
            return self._trained
        return np.bincount(self._rollout, weights=self._trained, minlength=self.rollouts).astype(np.int64)

    def reduce(self, x: torch.Tensor, level: Level, how: How) -> torch.Tensor:
        """``x``, one a position and 0 where nothing is trained, summed, averaged or maximised; float64.

        Empty: 0. ``"max"`` is for numbers that are not negative.
        """
        if level == "rollout":
            rows = self.reduce(x, "row", "max" if how == "max" else "sum")
            index = self._cached("rollout", lambda: self._rollout)
            out = rows.new_zeros(self.rollouts)
            out = out.scatter_reduce(0, index, rows, "amax" if how == "max" else "sum")
        elif self.width and level == "row":
            table = x.view(-1, self.width)
            out = table.amax(1).double() if how == "max" else table.sum(1, dtype=torch.float64)
        else:
            lengths = self._cached(f"lengths {level}", lambda: self._lengths(level))
            out = torch.segment_reduce(
                x.double(), "max" if how == "max" else "sum", lengths=lengths, unsafe=True, initial=0
            )
        return out / self.sizes(level).clamp(min=1) if how == "mean" else out

    def spread(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """One value a row, rollout or turn for each of its positions."""
        if level == "rollout":
            x, level = x[self._cached("rollout", lambda: self._rollout)], "row"
        return repeated(x, self._lengths(level))

    @cached_property
    def _rollout(self) -> NDArray[np.int64]:
        return self._make_rollout()

    @cached_property
    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return self._make_runs()

    def _lengths(self, level: Level) -> NDArray[np.int64]:
        return self._runs[0] if level == "turn" else self.lengths

    def _cached(self, name: str, make: Callable[[], NDArray[Any]]) -> torch.Tensor:
        if name not in self._on:
            host = np.ascontiguousarray(make())
            # A copy: columns of rows are read-only, which torch does not know.
            self._on[name] = torch.from_numpy(host.copy()).to(self.device, non_blocking=True)
        return self._on[name]


def repeated(x: torch.Tensor, counts: NDArray[np.int64]) -> torch.Tensor:
    """Each number of ``x`` as many times as ``counts`` says."""
    if len(counts) and (counts == counts[0]).all():
        # A single row would be a view of one number.
        return x[:, None].expand(-1, int(counts[0])).reshape(-1).contiguous()
    if x.device.type == "cpu" and int(counts.sum()) > 1 << 20:
        made: torch.Tensor = expand(x, lengths=counts).values
        return made
    if x.device.type == "cpu":
        # Not by threads of our own: those of torch still spin for the next piece.
        return torch.from_numpy(np.repeat(x.numpy(), counts))
    # A copy if read-only, as columns of rows are, which torch does not know.
    on = torch.from_numpy(counts if counts.flags.writeable else counts.copy()).to(x.device, non_blocking=True)
    return x.repeat_interleave(on, output_size=int(counts.sum()))
