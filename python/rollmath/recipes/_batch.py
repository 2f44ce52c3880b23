"""Batch: what a recipe prepares of the rollouts of a step, and cuts into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath._arrays import Array
from rollmath._columns import flat_positions, picked_rows
from rollmath.ragged import Ragged
from rollmath.rows import Rows
from rollmath.select import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

Level: TypeAlias = Literal["rollout", "row", "token"]


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Rows to train on and their advantages, as :meth:`Recipe.prepare` makes them.

    Attributes:
        rows: rows of the shape that was given; of the rollouts that were dropped, no token is trained.
        advantages: one a rollout in the order of ``rows.rollouts.ids``, or one a row, of the kind of the rewards; or
            one a token, a Ragged with the offsets of the rows. 0 for rollouts that were dropped.
        level: which of these, as ``policy_loss(level=)`` wants it.
        rewards: those of the rollouts of the step after the penalties of the recipe, of the kind that was given.
        selection: which rollouts of the step are trained, a :class:`~rollmath.select.Selection`; its report says why
            others are not.
        metrics: numbers for a log.

    ``rewards``, ``selection`` and ``metrics`` are those of the whole step in a micro-batch, too.
    """

    rows: Rows
    advantages: Array | Ragged
    level: Level
    rewards: Array = field(default=None)
    selection: Selection = field(default=None)  # type: ignore[assignment]
    metrics: dict[str, float] = field(default_factory=dict)

    def take(self, rows: Any) -> Batch:
        """The rows at these indices, or at the True of a bool array: a micro-batch."""
        picked = picked_rows(rows, self.rows.n_rows)
        part = self.rows.take(picked)
        values = self.advantages
        if isinstance(values, Ragged):
            values = rows_of(values, picked)
        elif self.level == "row":
            values = items(values, picked)
        else:
            values = items(values, self.rows.rollouts.index[picked[part.rollouts.first]])
        return replace(self, rows=part, advantages=values)

    def __len__(self) -> int:
        return self.rows.n_rows

    def __repr__(self) -> str:
        return f"Batch({self.rows!r}, one advantage a {self.level})"


def rows_of(x: Ragged, rows: NDArray[np.int64]) -> Ragged:
    """Some rows of it."""
    return Ragged.from_lengths(items(x.values, flat_positions(x.offsets, rows)), x.lengths[rows])


def items(x: Any, at: NDArray[np.int64]) -> Any:
    """Some elements of an array or a tensor."""
    if isinstance(x, np.ndarray):
        return x[at]
    import torch  # noqa: PLC0415 - a tensor came, so it is loaded

    return x[torch.from_numpy(np.ascontiguousarray(at)).to(x.device)]
