"""What methods on step graphs share: rewards, and what they are worth at each step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import Back, real, rows
from rollmath.ops import discounted_sum, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.steps import Steps


@contextmanager
def on_behalf(who: str, of: str) -> Iterator[None]:
    """Errors of ``of``, which the user has not called, name ``who``."""
    try:
        yield
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace(f"{of}()", f"{who}()", 1)) from None


def per_trajectory(
    who: str, steps: Steps, name: str, x: ArrayLike, nan: str | None = "raise"
) -> tuple[NDArray[np.float64], Back]:
    """One number a trajectory in float64; finite, but for NaN unless ``nan="raise"``. None: there is no such choice."""
    values, back = rows(who, name, x, steps.n_trajectories, "steps.n_trajectories")
    _finite(who, name, values, nan, "take such trajectories out with steps.take(keep)")
    return values, back


def per_step(
    who: str, steps: Steps, name: str, x: ArrayLike, nan: str | None = "raise"
) -> tuple[NDArray[np.float64], Back]:
    """One number a row, likewise."""
    values, back = rows(who, name, x, len(steps), "the number of rows")
    rewards = name.endswith("rewards")
    _finite(who, name, values, nan, "a step without a reward has 0" if rewards else "every step needs a number")
    return values, back


def _finite(who: str, name: str, x: NDArray[np.float64], nan: str | None, fix: str) -> None:
    wrong = ~np.isfinite(x)
    if nan == "propagate" or not wrong.any():
        return
    wrong = np.isinf(x) if nan == "omit" else wrong
    if len(bad := np.flatnonzero(wrong)):
        fix += "" if nan is None else ", or choose nan='propagate'"
        msg = f"{who}(): {name!r} must be finite, got {x[bad[0]]} at index {bad[0]}; {fix}"
        raise ValueError(msg)


def reward_of_steps(
    who: str, steps: Steps, rewards: ArrayLike | None, step_rewards: ArrayLike | None, nan: str | None = "raise"
) -> tuple[NDArray[np.float64], Back]:
    """The reward of each row: those of the steps, or that of the trajectory at its last step."""
    if (rewards is None) == (step_rewards is None):
        got = "neither" if rewards is None else "both"
        msg = (
            f"{who}(): one of 'rewards' (one a trajectory, counted at its last step) and 'step_rewards' (one a row, "
            f"all that the step has earned) must be given, and the other be None, got {got}"
        )
        raise ValueError(msg)
    if step_rewards is not None:
        return per_step(who, steps, "step_rewards", step_rewards, nan)
    outcome, back = per_trajectory(who, steps, "rewards", rewards, nan)
    return np.where(steps.last, outcome[steps.trajectory_index], 0.0), back


def total_of(steps: Steps, rewards: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over the rows of each trajectory, 0 for one without rows."""
    present = steps.groups(by="trajectory")
    out = np.zeros(steps.n_trajectories)
    out[steps.trajectory_index[present.first]] = segment_sum(rewards, present)
    return out


def returns_of(who: str, steps: Steps, rewards: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """``G_t = r_t + gamma G_{t+1}`` within each trajectory, in the order of the rows.

    A reward that is not finite makes NaN of the returns of all steps up to its own.
    """
    decay = real(who, "gamma", gamma, 0.0, 1.0)
    known = np.isfinite(rewards)

    def scan(x: NDArray[np.float64], by: float) -> NDArray[np.float64]:
        total = discounted_sum(steps.by_trajectory(x), decay=by, name="rewards", who=who)
        return np.asarray(steps.by_row(total))

    if known.all():
        return scan(rewards, decay)
    out = scan(np.where(known, rewards, 0.0), decay)
    out[scan((~known).astype(np.float64), 1.0) > 0] = np.nan
    return out
