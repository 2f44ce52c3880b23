"""The terms of which methods on step graphs are sums, and how rewards come to the ends of a graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import Back
from rollmath._step_graph import StepGraph
from rollmath.conventions import Convention
from rollmath.graph._common import on_behalf, per_trajectory
from rollmath.groups import Groups
from rollmath.ops import normalize, segment_broadcast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.steps import Steps

Scale: TypeAlias = Literal["none", "std"]
Statistics: TypeAlias = Literal["trajectories", "step_rows"]


def rewards_of(
    who: str, steps: Steps, rewards: ArrayLike, rules: Convention
) -> tuple[NDArray[np.float64], NDArray[np.bool_], Back]:
    """Finite rewards, the rows whose task has another, with ``nan="propagate"`` alone, and the way back."""
    values, back = per_trajectory(who, steps, "rewards", rewards, _nan(rules))
    lost = ~np.isfinite(values)
    tasks = np.asarray(segment_broadcast(lost, steps.trajectory_groups, how="max")) > 0
    return np.where(lost, 0.0, values), tasks[steps.trajectory_index], back


def _nan(rules: Convention) -> str:
    # A graph without the steps of some trajectories is that of steps.take(keep).
    return "propagate" if rules.nan == "propagate" else "raise"


def check_choices(who: str, scale: Scale, statistics: Statistics = "trajectories") -> None:
    """Raises unless they are what they may be."""
    choice(who, "scale", scale, ("none", "std"))
    choice(who, "statistics", statistics, ("trajectories", "step_rows"))


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
    check_choices(who, scale, statistics)
    if advantages is not None:
        return added(who, steps, advantages, rules)
    return among_trajectories(who, steps, rewards, rules, scale, statistics)[steps.trajectory_index]


def among_trajectories(
    who: str, steps: Steps, rewards: NDArray[np.float64], rules: Convention, scale: Scale, statistics: Statistics
) -> NDArray[np.float64]:
    """For each trajectory its reward against those of the task; over rows, one without a row gets 0."""
    if statistics == "trajectories":
        return against(who, rewards, steps.trajectory_groups, rules, scale, what="task", of="trajectory")
    rows = steps.trajectory_index
    out = np.zeros(steps.n_trajectories)
    out[rows] = against(who, rewards[rows], steps.row_groups, rules, scale, what="task")  # the same in all its rows
    return out


def added(who: str, steps: Steps, advantages: ArrayLike, rules: Convention | None) -> NDArray[np.float64]:
    """For each row the given advantage of its trajectory."""
    values, _ = per_trajectory(who, steps, "advantages", advantages, None if rules is None else _nan(rules))
    return values[steps.trajectory_index]


def among_steps(
    who: str, x: NDArray[np.float64], groups: Groups, rules: Convention, scale: Scale, *, what: str = "state"
) -> NDArray[np.float64]:
    """``x`` against its group; a row that has nothing to be compared with gets 0 whatever ``singleton`` says."""
    return against(who, x, groups, replace(rules, singleton="zero"), scale, what=what)


def against(
    who: str,
    x: NDArray[np.float64],
    groups: Groups,
    rules: Convention,
    scale: Scale,
    *,
    what: str,
    of: str = "row",
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """``(x - mean) / (std + eps)`` or ``x - mean`` in each group, which is a ``what`` to the user."""
    try:
        return np.asarray(normalize(x, groups, scale=scale, valid=valid, convention=rules, name="rewards", who=who))
    except ValueError as wrong:
        text = str(wrong).replace("'groups' has a group", f"'steps' has a {what}", 1)
        raise ValueError(text.replace("the group of row", f"that of {of}", 1)) from None


def graph_of(who: str, steps: Steps, terminal: NDArray[Any], truncated: ArrayLike | None) -> StepGraph:
    """``steps.graph`` on behalf of ``who``."""
    with on_behalf(who, "Steps.graph"):
        return steps.graph(action=False, terminal=terminal, truncated=truncated)


def at_ends(graph: StepGraph, x: NDArray[Any], fill: Any) -> NDArray[Any]:
    """One value a node: that of a trajectory at its end, ``fill`` elsewhere."""
    out = np.full(graph.n_nodes, fill, x.dtype)
    ended = graph.end_of_trajectory >= 0
    out[graph.end_of_trajectory[ended]] = x[ended] + 0  # -0.0 and 0.0 share an end
    return out
