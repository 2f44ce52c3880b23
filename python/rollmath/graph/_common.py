"""What methods on steps share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import Back, rows
from rollmath._step_graph import StepGraph
from rollmath.conventions import Convention
from rollmath.groups import Groups
from rollmath.ops import discounted_sum, gather, normalize, segment_max

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.steps import Steps

Statistics: TypeAlias = Literal["trajectories", "step_rows"]
Scale: TypeAlias = Literal["std", "none"]


def trajectory_values(
    who: str, name: str, x: ArrayLike, steps: Steps, *, propagate: bool | None = None
) -> tuple[NDArray[np.float64], Back]:
    """One float a trajectory, finite unless they may ``propagate``; None: there is no such choice to point at."""
    values, back = rows(who, name, x, steps.n_trajectories, "steps.n_trajectories")
    if not propagate:
        fix = "take such trajectories out with steps.take(keep)"
        _finite(who, name, values, fix if propagate is None else f"{fix}, or choose nan='propagate'")
    return values, back


def row_values(who: str, name: str, x: ArrayLike, steps: Steps) -> NDArray[np.float64]:
    """One finite float a row."""
    values, _ = rows(who, name, x, len(steps), "the number of rows")
    _finite(who, name, values, "take such trajectories out with steps.take(keep)")
    return values


def _finite(who: str, name: str, values: NDArray[np.float64], fix: str) -> None:
    if len(bad := np.flatnonzero(~np.isfinite(values))):
        msg = f"{who}(): {name!r} must be finite, got {values[bad[0]]:g} at index {bad[0]}; {fix}"
        raise ValueError(msg)


def discounted_returns(
    steps: Steps, rewards: NDArray[np.float64], gamma: float, step_rewards: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """``G_t = r_t + gamma G_{t+1}`` for each row; the reward of a trajectory is added to that of its last row."""
    r = np.where(steps.last, steps.gather(rewards), 0.0)
    if step_rewards is not None:
        r += step_rewards
    return np.asarray(steps.by_row(discounted_sum(steps.by_trajectory(r), decay=gamma)))


def episode_term(
    who: str,
    steps: Steps,
    rewards: NDArray[np.float64],
    advantages: ArrayLike | None,
    rules: Convention,
    *,
    scale: Scale,
    statistics: Statistics,
) -> NDArray[np.float64]:
    """For each row the given advantage of its trajectory, or its reward against those of the task."""
    choice(who, "scale", scale, ("std", "none"))
    choice(who, "statistics", statistics, ("trajectories", "step_rows"))
    if advantages is not None:
        given, _ = trajectory_values(who, "advantages", advantages, steps, propagate=rules.nan == "propagate")
        return np.asarray(steps.gather(given))

    def against(x: Any, groups: Groups) -> Any:
        return normalize(x, groups, scale=scale, convention=rules, name="rewards", who=who)

    if statistics == "step_rows":
        return np.asarray(against(steps.gather(rewards), steps.row_groups))
    return np.asarray(steps.gather(against(rewards, steps.trajectory_groups)))


def among(
    who: str, x: NDArray[np.float64], groups: Groups, rules: Convention, scale: Scale
) -> NDArray[np.float64]:
    """``x`` against its group; a row that has nothing to be compared with gets 0 whatever ``singleton`` says."""
    out = normalize(x, groups, scale=scale, convention=replace(rules, singleton="zero"), name="rewards", who=who)
    return np.asarray(out)


def split_lost(
    steps: Steps, rewards: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rewards with 0 for those that are not finite, and the rows of their tasks, which are lost."""
    lost = ~np.isfinite(rewards)
    tasks = gather(segment_max(lost, steps.trajectory_groups), steps.trajectory_groups) > 0
    return np.where(lost, 0.0, rewards), steps.gather(tasks)


def graph_of(
    who: str, steps: Steps, terminal: NDArray[Any], truncated: ArrayLike | None
) -> StepGraph:
    """``steps.graph`` on behalf of ``who``."""
    try:
        return steps.graph(action=False, terminal=terminal, truncated=truncated)
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace("Steps.graph()", f"{who}()", 1)) from None


def at_ends(graph: StepGraph, x: NDArray[Any], fill: Any) -> NDArray[Any]:
    """One value a node: that of a trajectory at its end, ``fill`` elsewhere."""
    out = np.full(graph.n_nodes, fill, x.dtype)
    ended = graph.end_of_trajectory >= 0
    out[graph.end_of_trajectory[ended]] = x[ended]
    return out
