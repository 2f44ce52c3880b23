"""GiGPO: a trajectory against those of its task, and a step against those taken in the same state."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real
from rollmath.conventions import GIGPO, Convention, Framework, Override, resolve
from rollmath.graph._common import per_trajectory, returns_of, reward_of_steps, total_of
from rollmath.graph._terms import Scale, Statistics, against, among_steps, among_trajectories, check_choices
from rollmath.steps import Steps, as_steps


def gigpo(
    steps: Steps,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    gamma: float = 0.95,
    weight: float = 1.0,
    scale: Scale = "none",
    statistics: Statistics = "trajectories",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = GIGPO,
    **override: Unpack[Override],
) -> Array:
    """GiGPO: ``A_t = A_episode + weight A_step``, a term for the trajectory and one for the state it was in.

    ``A_episode = R - mean(R)`` over the trajectories of the task, ``A_step = G_t - mean(G)`` over the rows of the task
    with the same state (the anchor, ``steps.groups(by="state")``), with the discounted returns ``G_t``; both divided by
    their spread plus eps with ``scale="std"``. The terms alone are :func:`gigpo_episode` and :func:`gigpo_step`.

    Args:
        steps: a :class:`~rollmath.Steps`. Similar states are one anchor if their keys are one canonical id.
        rewards: ``R``, one number a trajectory, ``[n_trajectories]``. None: the sum of its ``step_rewards``.
        step_rewards: one number a row, all that the step has earned, the outcome included: the returns are then made
            of these alone. Default: ``rewards`` at the last steps. A penalty for an invalid action belongs in here; the
            official code takes it off the return of that step alone, and off the step's ``R``.
        gamma: discount from step to step, in [0, 1].
        weight: of the step term, ``omega`` in the paper.
        scale: ``"none"``, or ``"std"`` to divide by the standard deviation. The code's default is ``"none"`` (its
            ``mean_norm``); its scripts choose one an environment (``"std"`` for ALFWorld, ``"none"`` for WebShop).
        statistics: what the episode term's mean and spread are over: ``"trajectories"``, the paper's, or
            ``"step_rows"``, the code's: each trajectory counts as often as it has steps, so that long ones dominate.
        advantages: the episode term itself instead, one a trajectory, from any estimator of :mod:`rollmath.group` over
            ``steps.trajectory_groups``.
        convention: ddof, eps and what degenerate groups get. Default ``conventions.GIGPO``: sample standard deviation
            plus 1e-6; the only trajectory of a task keeps its reward. ``singleton`` speaks of the episode term: a state
            that one row alone was in has a step term of 0.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards`` (of ``step_rewards`` without). Each term is exactly 0
        where what it compares is equal. With ``gamma`` below 1 equal rewards are not equal returns, which are
        discounted by the steps that are left.

    Raises:
        ValueError: wrong lengths; neither rewards nor step rewards; NaN or infinite rewards unless ``nan=`` says
            otherwise; options out of range; degenerate groups where a policy says raise.
        TypeError: ``steps`` that are no Steps; a wrong dtype or rank.

    Source: GiGPO, arXiv 2505.10978, the paper from its abstract and the official code's comments. The official code
    was executed (its copy in tmlr-group/RewardFlow) and agrees with ``statistics="step_rows"`` for both scales;
    Trinity-RFT's was, too, and agrees with ``"trajectories"`` (``convention=conventions.TRINITY, gamma=1.0``), except
    that it merges equal state hashes of different tasks, and divides by 1 + 1e-6 with ``scale="none"``.

    >>> steps = Steps(["t", "t", "u", "u"], ["hall", "room", "hall", "yard"], groups=[0, 0])
    >>> gigpo(steps, [1.0, 0.0], gamma=0.5).tolist()
    [0.75, 0.5, -0.75, -0.5]
    """
    who = "gigpo"
    made, rules = as_steps(who, steps), resolve(who, who, convention, override)
    check_choices(who, scale, statistics)
    omega = real(who, "weight", weight)
    x, back = reward_of_steps(who, made, rewards if step_rewards is None else None, step_rewards, rules.nan)
    if rewards is None:
        total = total_of(made, x)
    else:
        total, back = per_trajectory(who, made, "rewards", rewards, rules.nan)

    if advantages is None:
        episode = among_trajectories(who, made, total, rules, scale, statistics)
    else:
        episode, _ = per_trajectory(who, made, "advantages", advantages, rules.nan)
        if rules.nan == "omit":
            episode = np.where(np.isnan(episode), 0.0, episode)
    step = among_steps(who, returns_of(who, made, x, gamma), made.groups(by="state"), rules, scale)
    with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
        return back(episode[made.trajectory_index] + omega * step)


def gigpo_episode(
    steps: Steps,
    rewards: ArrayLike,
    *,
    scale: Scale = "none",
    statistics: Statistics = "trajectories",
    convention: Convention | Framework = GIGPO,
    **override: Unpack[Override],
) -> Array:
    """The episode term of GiGPO: ``A_i = R_i - mean(R)``, or ``(R_i - mean(R)) / (std(R) + eps)``, over the task.

    With ``statistics="trajectories"`` it is ``group.dr_grpo``, or ``group.grpo`` with ``scale="std"``, over
    ``steps.trajectory_groups``. With ``"step_rows"`` mean and spread are over the rows of the task, as in GiGPO's code.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``[n_trajectories]``.
        scale: as for :func:`gigpo`.
        statistics: likewise.
        convention: likewise.
        **override: fields of the convention.

    Returns:
        ``[n_trajectories]``, in the kind and float type of ``rewards``; ``steps.gather`` gives it to the rows. Over
        ``"step_rows"`` a trajectory without rows gets 0.

    Raises:
        ValueError: as :func:`gigpo`.
        TypeError: likewise.

    Source: as :func:`gigpo`.

    >>> steps = Steps.from_lengths([3, 1], list("abca"), groups=["q", "q"])
    >>> gigpo_episode(steps, [1.0, 0.0]).tolist()
    [0.5, -0.5]
    >>> gigpo_episode(steps, [1.0, 0.0], statistics="step_rows").tolist()
    [0.25, -0.75]
    """
    who = "gigpo_episode"
    made, rules = as_steps(who, steps), resolve(who, who, convention, override)
    check_choices(who, scale, statistics)
    total, back = per_trajectory(who, made, "rewards", rewards, rules.nan)
    return back(among_trajectories(who, made, total, rules, scale, statistics))


def gigpo_step(
    steps: Steps,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    gamma: float = 0.95,
    scale: Scale = "none",
    convention: Convention | Framework = GIGPO,
    **override: Unpack[Override],
) -> Array:
    """The step term of GiGPO: ``A_t = G_t - mean(G)``, or divided by ``std(G) + eps``, over the rows with its state.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned.
        gamma: discount from step to step, in [0, 1].
        scale: as for :func:`gigpo`.
        convention: ddof, eps and what states of one row or without spread get; with ``conventions.GIGPO``, the default,
            both get 0.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of what was given. It sums to 0 over the rows of a state.

    Raises:
        ValueError: both or none of the rewards; else as :func:`gigpo`.
        TypeError: as :func:`gigpo`.

    Source: as :func:`gigpo`.

    >>> steps = Steps(["t", "t", "u", "u"], ["hall", "room", "hall", "yard"], groups=[0, 0])
    >>> gigpo_step(steps, [1.0, 0.0], gamma=0.5).tolist()
    [0.25, 0.0, -0.25, 0.0]
    """
    who = "gigpo_step"
    made, rules = as_steps(who, steps), resolve(who, who, convention, override)
    check_choices(who, scale)
    x, back = reward_of_steps(who, made, rewards, step_rewards, rules.nan)
    returns = returns_of(who, made, x, gamma)
    return back(against(who, returns, made.groups(by="state"), rules, scale, what="state"))
