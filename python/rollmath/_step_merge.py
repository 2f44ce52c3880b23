"""Steps that are the same step: rows of one key, and what they share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, Immutable, floats, frozen
from rollmath.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

Count = Literal["visit", "trajectory"]


class MergedSteps(Immutable):
    """Rows of a step table by what they have in common, from :meth:`rollmath.Steps.merge`.

    Attributes:
        groups: :class:`~rollmath.Groups` over the rows; each group is one merged step.
        weights: float64 ``[n_rows]``, what each row counts in :meth:`mean`: 1 for ``count="visit"``; for
            ``"trajectory"`` one over the rows that its trajectory has in the group.
    """

    groups: Groups
    count: str
    weights: NDArray[np.float64]
    _trajectory: NDArray[np.int64]

    @classmethod
    def _make(cls, groups: Groups, trajectory: NDArray[np.int64], count: str) -> MergedSteps:
        merged = cls.__new__(cls)
        merged._fill(groups=groups, _trajectory=trajectory, count=count)
        weights = np.ones(len(groups)) if count == "visit" else 1.0 / merged._own.counts[merged._own.index]
        merged._fill(weights=frozen(weights))
        return merged

    @cached_property
    def _own(self) -> Groups:
        """Rows of one merged step and one trajectory."""
        return Groups.product(self.groups, Groups(self._trajectory))

    @cached_property
    def visits(self) -> NDArray[np.int64]:
        """Rows of each merged step, int64 ``[groups.n_groups]``."""
        return self.groups.counts

    @cached_property
    def trajectories(self) -> NDArray[np.int64]:
        """Trajectories that take each merged step, int64 ``[groups.n_groups]``."""
        return frozen(np.bincount(self.groups.index[self._own.first], minlength=self.groups.n_groups))

    @cached_property
    def shared(self) -> NDArray[np.bool_]:
        """Rows whose step another trajectory takes, too, bool ``[n_rows]``."""
        return frozen(self.trajectories[self.groups.index] > 1)

    def mean(self, x: ArrayLike) -> Array:
        """The mean of ``x`` over each merged step, one number a row: ``sum_j w_j x_j / sum_j w_j``.

        With ``count="visit"`` the sum of ``x`` over all rows is preserved. A NaN spreads over its step.
        """
        who = "MergedSteps.mean"
        values, kind = floats(who, "x", x, length=len(self.groups), why="the number of rows")
        if self.count == "visit":
            mean = _core.reduce(who, "x", self.groups._csr, values, None, "mean", 0.0, "linear")
        else:
            mean = _core.weighted_mean(who, "x", self.groups._csr, values, self.weights, None)
        return kind.wrap(mean[self.groups.index].astype(values.dtype, copy=False))

    def __len__(self) -> int:
        return len(self.groups)

    def __repr__(self) -> str:
        return f"MergedSteps({len(self)} rows, {self.groups.n_groups} steps, {int(self.shared.sum())} rows shared)"
