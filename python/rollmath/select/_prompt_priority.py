"""What is known of prompts, and how often each should be drawn for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice, frozen
from rollmath._checks import real, rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The largest priority: no sum of as many as fit into memory overflows.
LARGEST = 1e288

_NAMES = ("uniform", "learnability", "failure", "nearest")


class PromptStats(NamedTuple):
    """What a :class:`PromptSampler` knows of some prompts, one number each.

    Attributes:
        positions: of the prompts, int64.
        alpha: of the Beta posterior of the success rate: discounted successes and the prior's.
        beta: likewise of failures.
        visits: updates in which each took part, int64.
        last_step: step of the last of these, int64; -1 for none.
    """

    positions: NDArray[np.int64]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    visits: NDArray[np.int64]
    last_step: NDArray[np.int64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the posterior, ``alpha / (alpha + beta)``."""
        return self.alpha / (self.alpha + self.beta)


Priority: TypeAlias = Literal["uniform", "learnability", "failure", "nearest"] | Callable[[PromptStats], ArrayLike]


def options(who: str, priority: Priority, target: Any, width: Any, kernel: Any) -> dict[str, Any]:
    """The options of a priority, checked: those of ``"nearest"`` are None for all others."""
    nearest = {"target": target, "width": width, "kernel": kernel}
    if not callable(priority):
        choice(who, "priority", priority, _NAMES)
    if isinstance(priority, str) and priority == "nearest":
        shape = "exponential" if kernel is None else kernel
        choice(who, "kernel", shape, ("exponential", "triangular"))
        nearest = {
            "target": 0.5 if target is None else real(who, "target", target, 0.0, 1.0),
            "width": 0.25 if width is None else real(who, "width", width, above=0.0),
            "kernel": shape,
        }
    elif given := [name for name, x in nearest.items() if x is not None]:
        msg = f"{who}(): {given[0]!r} must be left out unless priority='nearest', got priority={priority!r}"
        raise ValueError(msg)
    return {"priority": priority, **nearest}


def weights(who: str, given: dict[str, Any], stats: PromptStats) -> NDArray[np.float64]:
    """The priority of each prompt, not yet checked.

    Raises:
        ValueError: a callable returned another number of priorities.
        TypeError: it returned no numbers.
    """
    how = given["priority"]
    if callable(how):
        # Copies that it may keep, and cannot write to.
        asked = PromptStats(*(frozen(column.copy()) for column in stats))
        return rows(who, "priority", how(asked), len(stats.positions), "the prompts it was called with")[0]
    if how == "uniform":
        return np.ones(len(stats.positions))
    if how in ("learnability", "failure"):
        # Not 1 - p, which has few digits where p is near 1.
        q = stats.beta / (stats.alpha + stats.beta)
        return np.asarray(q if how == "failure" else stats.mean * q)
    with np.errstate(over="ignore"):
        away = np.abs(stats.mean - given["target"]) / given["width"]
    return np.asarray(np.exp(-away) if given["kernel"] == "exponential" else np.maximum(1.0 - away, 0.0))
