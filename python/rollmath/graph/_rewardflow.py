"""RewardFlow: rewards flow back along the steps of all rollouts, and a step earns what it has come nearer."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.conventions import REWARDFLOW, Convention, Framework, Override, resolve
from rollmath.graph._common import per_trajectory
from rollmath.graph._terms import Scale, Statistics, among_steps, at_ends, episode_term, graph_of, rewards_of
from rollmath.graph._values import StepValues
from rollmath.ops import graph_backup
from rollmath.steps import Steps, as_steps


def rewardflow_values(
    steps: Steps, rewards: ArrayLike, *, gamma: float = 0.95, truncated: ArrayLike | None = None
) -> StepValues:
    """The values of RewardFlow: ``V(s) = max(0, gamma max V(s'))`` over the steps from ``s`` of all rollouts.

    An end is worth the reward of its trajectory. So ``V(s)`` is the largest ``gamma^n R`` over the ends with a positive
    reward, ``n`` the fewest steps to it, and 0 where there is none.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        gamma: what a step costs, in [0, 1].
        truncated: bool mask, one a trajectory: those that were cut off in a known state, as in
            :meth:`rollmath.Steps.graph`; they end nowhere, and their reward is not used.

    Returns:
        ``values`` and ``next_values``, both ``[n_rows]``, in the kind and float type of ``rewards``. The reward of a
        step is their difference.

    Raises:
        ValueError: wrong lengths; rewards that are not finite or that require grad; ``gamma`` out of range.

    Source: RewardFlow, arXiv 2603.18859; the official code, tmlr-group/RewardFlow (``propagate_reward_decay``), was
    executed and agrees. It makes as many sweeps over the graph as it is told to, here 1000.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> rewardflow_values(steps, [1.0, 0.0], gamma=0.5).next_values.tolist()
    [0.5, 1.0, 0.0, 0.0]
    """
    who = "rewardflow_values"
    made = as_steps(who, steps)
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    r, back = per_trajectory(who, made, "rewards", rewards, None)
    v, ahead = _values(who, made, r, discount, truncated)
    return StepValues(back(v), back(ahead))


def rewardflow(
    steps: Steps,
    rewards: ArrayLike,
    *,
    gamma: float = 0.95,
    last: Literal["value", "reward"] = "value",
    truncated: ArrayLike | None = None,
    scale: Scale = "none",
    weight: float = 1.0,
    statistics: Statistics = "trajectories",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = REWARDFLOW,
    **override: Unpack[Override],
) -> Array:
    """RewardFlow: ``A = z_task(R) + w z_state(V(s') - V(s))``, ``z(x) = x - mean``.

    ``V`` is that of :func:`rewardflow_values`: what the nearest success is worth from there. ``z_task`` goes over the
    trajectories of the task, ``z_state`` over the steps from a state.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        gamma: what a step costs, in [0, 1]; the training scripts have 0.9.
        last: what a last step earns: ``"value"`` ``R - V(s)``; ``"reward"`` ``R``. In the code it is the former for
            trajectories that are shorter than the longest of the batch and the latter for the longest.
        truncated: as for :func:`rewardflow_values`; the last step of these earns ``V(s') - V(s)``.
        scale: ``"none"``, or ``"std"`` for ``(x - mean) / (std + eps)`` in both terms.
        weight: ``w``.
        statistics: of the first term: over the ``"trajectories"`` of the task, or, as the code has it, over its
            ``"step_rows"``, where a trajectory counts once for each of its steps.
        advantages: one a trajectory, instead of the first term.
        convention: ddof, eps and what a task of one trajectory or without spread gets. Default
            ``conventions.REWARDFLOW``: sample standard deviation plus 1e-6, a lone reward stays. A state visited once
            gets 0 from ``z_state``, whatever ``singleton`` says.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards``. Where no trajectory of a task has a positive reward
        ``V`` is 0 in all states. With ``nan="propagate"`` a task with a reward that is not finite is NaN.

    Raises:
        ValueError: wrong lengths; rewards that are not finite unless ``nan="propagate"``, or that require grad;
            ``gamma`` out of range; groups of one or without spread where a policy says raise.

    Source: RewardFlow, arXiv 2603.18859. The official code, tmlr-group/RewardFlow, was executed and agrees with
    ``statistics="step_rows"``; it does not discount the rewards of later steps. Rewards within a trajectory, which it
    gives to the states that they were received in, are not read here. Paper known from its abstract.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> rewardflow(steps, [1.0, 0.0], gamma=0.5).tolist()
    [0.75, 0.5, -0.75, -0.5]
    """
    who = "rewardflow"
    made = as_steps(who, steps)
    rules = resolve(who, "rewardflow", convention, override)
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    omega = real(who, "weight", weight)
    choice(who, "last", last, ("value", "reward"))
    r, lost, back = rewards_of(who, made, rewards, rules)
    v, ahead = _values(who, made, r, discount, truncated)
    reward = ahead - v
    if last == "reward":
        reward = np.where(made.last, made.gather(r), reward)
    out = episode_term(who, made, r, advantages, rules, scale=scale, statistics=statistics)
    step = among_steps(who, reward, made.groups(by="state"), rules, scale)
    return back(np.where(lost, np.nan, out + omega * step))


def _values(who: str, steps: Steps, rewards: Array, gamma: float, truncated: ArrayLike | None) -> tuple[Array, Array]:
    """``V`` of the state of each row, and of what the row leads to."""
    graph = graph_of(who, steps, rewards, truncated)
    ends = at_ends(graph, rewards, np.nan)
    # No state is worth less than the 0 that it starts with, whatever a step from it leads to.
    v = np.asarray(graph_backup(graph, np.maximum(ends, 0.0), how="max", gamma=gamma))
    return v[graph.node_of_row], np.where(graph.ends, ends, v)[graph.next_of_row]
