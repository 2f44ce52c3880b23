"""SALT: steps that rollouts share get the mean of their advantages."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.graph._common import on_behalf, per_trajectory
from rollmath.graph._terms import against
from rollmath.groups import Groups
from rollmath.ops import segment_broadcast
from rollmath.steps import Steps, as_steps


def salt(
    steps: Steps,
    advantages: ArrayLike,
    *,
    history: int | None = 0,
    action: bool = True,
    next_state: bool = True,
    terminal: Literal["end"] | ArrayLike = "end",
    count: Literal["visit", "trajectory"] = "visit",
    renormalise: Literal["task"] | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """SALT, a reconstruction: ``A_j = mean of A_i over the rows (of rollouts i) that are the same step as j``.

    Rows are the same step if they agree in task, state, action and next state. A step of one rollout keeps the
    advantage of its rollout; where good and bad rollouts share a step, their advantages cancel.

    Args:
        steps: a :class:`~rollmath.Steps`.
        advantages: one number a trajectory, ``[n_trajectories]``, from any estimator of :mod:`rollmath.group` over
            ``steps.trajectory_groups``.
        history: how many (state, action) pairs before must agree, too. 0, the default, compares transitions alone; None
            all that came before, so that only common prefixes merge.
        action: whether actions must agree, those of the history too.
        next_state: whether next states must.
        terminal: what a trajectory's last step leads to: ``"end"``, one state for all (or the one that ``Steps`` was
            given as ``next_state=``); or one id a trajectory such as its outcome, so that only ends with equal ids are
            the same.
        count: what the mean is over: ``"visit"`` rows, ``"trajectory"`` rollouts, however often one takes the step.
        renormalise: ``"task"``: ``(A - mean(A)) / (std(A) + eps)`` over the rows of the task afterwards.
        convention: ddof, eps and what degenerate tasks get, where it is renormalised; ``nan`` always.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``advantages``. With ``count="visit"`` and without
        ``renormalise`` the sum over the rows of a task stays what it was; with ``count="trajectory"`` a step that all
        rollouts of a task take has their mean, 0 for centred advantages.

    Raises:
        ValueError: wrong length; NaN or infinite advantages unless ``nan=`` says otherwise; an unknown choice; an
            advantage that requires grad.
        TypeError: ``steps`` that are no Steps; a wrong dtype or rank.

    Source: SALT, arXiv 2510.20022, abstract and secondary descriptions; no official code was found, so this is a
    reconstruction, unverified. Known: advantages of any group estimator; a graph of the rollouts of one prompt; equal
    (state, action, next state) averaged, others as they are. Open there, and options here with defaults of ours: every
    keyword. ``next_state=False`` or a ``history`` may not be SALT at all.

    >>> steps = Steps(["t", "t", "u", "u"], ["hall", "room", "hall", "room"], list("xyxz"), groups=[0, 0])
    >>> salt(steps, [1.0, -1.0]).tolist()
    [0.0, 1.0, 0.0, -1.0]
    """
    who = "salt"
    made = as_steps(who, steps)
    choice(who, "count", count, ("visit", "trajectory"))
    if renormalise is not None:
        choice(who, "renormalise", renormalise, ("task",))
    rules = resolve(who, who, convention, override)
    x, back = per_trajectory(who, made, "advantages", advantages, rules.nan)

    with on_behalf(who, "Steps.merge"):
        same = made.merge(history=history, action=action, next_state=next_state, terminal=terminal)
    own = x[made.trajectory_index]
    seen = ~np.isnan(own) if rules.nan == "omit" else np.ones(len(made), bool)
    once = seen
    if count == "trajectory":
        # One row of each: the mean over the same rollouts has the same bits, whatever their visits.
        once = np.zeros(len(made), bool)
        once[Groups.product(same.groups, made.groups(by="trajectory")).first] = True
        once &= seen
    out = np.asarray(segment_broadcast(own, same.groups, valid=once))
    if renormalise == "task":
        out = against(who, out, made.row_groups, rules, "std", what="task", valid=seen)
    return back(np.where(seen, out, 0.0))
