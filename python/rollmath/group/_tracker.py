"""Quantiles that follow a stream of values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import finite, real, rows


@dataclass(frozen=True)
class QuantileTracker:
    """Quantiles that follow a stream of values: ``q <- q + lr (level - share of values below q)``, pinball SGD.

    Immutable: :meth:`update` returns a new one. Pass it to :func:`riskpo` *before* it has seen the batch, then update
    it with the scores of :func:`bundle_scores`.

    Attributes:
        levels: quantile levels in (0, 1), increasing.
        values: the current quantiles, one a level.
        lr: step size.

    >>> QuantileTracker((0.2,), (1.0,)).update([0.0, 1.0, 2.0, 3.0])
    QuantileTracker(levels=(0.2,), values=(0.995,), lr=0.1)
    """

    levels: tuple[float, ...]
    values: tuple[float, ...]
    lr: float = 0.1

    def __post_init__(self) -> None:
        who = "QuantileTracker"
        levels = tuple(real(who, "levels", x, low=0.0, high=1.0) for x in self.levels)
        values = tuple(real(who, "values", x) for x in self.values)
        if not levels or levels[0] <= 0 or levels[-1] >= 1 or list(levels) != sorted(set(levels)):
            msg = f"{who}(): 'levels' must increase strictly within (0, 1), got {self.levels}"
            raise ValueError(msg)
        if len(values) != len(levels) or list(values) != sorted(values):
            msg = f"{who}(): 'values' must be one a level and not decrease, got {self.values}"
            raise ValueError(msg)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "lr", real(who, "lr", self.lr, low=0.0))

    def update(self, x: ArrayLike) -> QuantileTracker:
        """The tracker after a batch of values (any order gives the same bits); after an empty one, itself.

        Values that would cross are put in order, which the official code does not do.
        """
        seen = rows("QuantileTracker.update", "x", x)[0]
        finite("QuantileTracker.update", "x", seen, np.ones(len(seen), dtype=bool))
        if not len(seen):
            return self
        below = [np.count_nonzero(seen < q) / len(seen) for q in self.values]
        moved = (q + self.lr * (a - b) for q, a, b in zip(self.values, self.levels, below, strict=True))
        return QuantileTracker(self.levels, tuple(sorted(moved)), self.lr)
