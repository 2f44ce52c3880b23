"""SALT: steps that rollouts share get the mean of their advantages."""

from __future__ import annotations

from typing import Literal

from rollmath._arrays import Array, ArrayLike
from rollmath.steps import Steps, as_steps


def salt(
    steps: Steps,
    advantages: ArrayLike,
    *,
    history: int | None = 0,
    terminal: Literal["end"] | ArrayLike = "end",
    count: Literal["visit", "trajectory"] = "visit",
) -> Array:
    """SALT: ``A_j = mean of A_i over the rollouts i that take step j``; a step of one rollout keeps its advantage.

    Source: arXiv 2510.20022, a reconstruction.
    """
    made = as_steps("salt", steps)
    return made.merge(history=history, terminal=terminal, count=count).mean(made.gather(advantages))
