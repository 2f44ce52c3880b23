"""Normalizer: what a loss is divided by, counted once over everything that makes one optimiser step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rollmath.loss._check import require
from rollmath.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Normalizer:
    """Counts over the whole batch of an optimiser step, all its micro-batches and ranks.

    With one Normalizer for all of them, the losses of the micro-batches *add up* to that of the batch, however it is
    split by rows, and so do the gradients. Where gradients are averaged over ranks (DDP, FSDP), multiply the loss by
    the number of ranks.

    Attributes:
        tokens: trained tokens.
        rows: rows with at least one trained token.
        rollouts: rollouts with at least one trained token.

    Raises:
        ValueError: negative, or more rows than tokens, or more rollouts than rows.
        TypeError: not an int.

    >>> from rollmath import Rows
    >>> Normalizer.local(Rows(["a", "a", "b"], [3, 1, 2], mask=[1, 0, 1, 0, 1, 1]))
    Normalizer(tokens=4, rows=2, rollouts=2)
    """

    tokens: int
    rows: int
    rollouts: int

    def __post_init__(self) -> None:
        for name in ("tokens", "rows", "rollouts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                msg = f"Normalizer(): {name!r} must be an int, got {value!r}"
                raise TypeError(msg)
            object.__setattr__(self, name, int(value))
        if not 0 <= self.rollouts <= self.rows <= self.tokens:
            msg = (
                f"Normalizer(): expected 0 <= rollouts <= rows <= tokens, got rollouts={self.rollouts}, "
                f"rows={self.rows}, tokens={self.tokens}"
            )
            raise ValueError(msg)

    @classmethod
    def local(cls, rows: Rows) -> Normalizer:
        """The counts of these rows alone. Take it of all rows of the step, or add the parts up."""
        require("Normalizer.local", "rows", rows, Rows, "Rows")
        live = rows.trained > 0
        return cls(
            tokens=int(rows.trained.sum()),
            rows=int(live.sum()),
            rollouts=len(np.unique(rows.rollouts.index[live])),
        )

    @staticmethod
    def sum(parts: Iterable[Normalizer]) -> Normalizer:
        """The counts of several parts (micro-batches or ranks) together; of none: all 0.

        ``tokens`` and ``rows`` are exact for any split by rows, ``rollouts`` only if no rollout has rows in two parts.

        Raises:
            TypeError: a part that is no Normalizer.
        """
        require("Normalizer.sum", "parts", parts, Iterable, "an iterable of Normalizers")
        total = Normalizer(tokens=0, rows=0, rollouts=0)
        for number, part in enumerate(parts):
            require("Normalizer.sum", f"parts[{number}]", part, Normalizer, "a Normalizer")
            total = total + part
        return total

    def __add__(self, other: Normalizer) -> Normalizer:
        if not isinstance(other, Normalizer):
            return NotImplemented
        return Normalizer(
            tokens=self.tokens + other.tokens, rows=self.rows + other.rows, rollouts=self.rollouts + other.rollouts
        )
