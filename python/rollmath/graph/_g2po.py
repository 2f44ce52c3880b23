"""G2PO: what a step has gained, against the other steps from its state and against all of its task."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import mask, real
from rollmath.conventions import G2PO, Convention, Framework, Override, resolve
from rollmath.graph._common import per_trajectory, returns_of
from rollmath.graph._terms import Scale, Statistics, among_steps, episode_term, rewards_of
from rollmath.ops import segment_broadcast
from rollmath.steps import Steps, as_steps


def g2po(
    steps: Steps,
    rewards: ArrayLike,
    *,
    gamma: float = 0.95,
    terminal: ArrayLike | None = None,
    invalid: ArrayLike | None = None,
    invalid_penalty: float = 0.1,
    scale: Scale = "std",
    weight: float = 1.0,
    statistics: Statistics = "trajectories",
    advantages: ArrayLike | None = None,
    convention: Convention | Framework = G2PO,
    **override: Unpack[Override],
) -> Array:
    """G2PO: ``A = z_task(R) + w (z_state(V(s')) + z_task(V(s') - V(s)))``, ``z(x) = (x - mean) / (std + eps)``.

    ``V(s)`` is the mean over the visits of ``s`` of ``gamma^(T - t + 1) R``, step ``t`` of ``T``. The first ``z_task``
    goes over the trajectories of the task, the second over all of its steps, ``z_state`` over the steps from ``s``.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: one number a trajectory, ``R``.
        gamma: discount per step, in [0, 1].
        terminal: ``V(s')`` after the last step, one a trajectory. Default: ``rewards``. The official code has 10 where
            the reward is 10 and 0 elsewhere, which is the same if there are no other rewards.
        invalid: bool mask, one a row: actions that the environment refused. ``invalid_penalty`` is taken from their
            ``V(s')`` in ``z_state``, and there alone.
        invalid_penalty: how much.
        scale: ``"std"``, or ``"none"`` for ``x - mean`` in all three terms (``mean_norm`` in the code).
        weight: ``w``.
        statistics: of the first term: over the ``"trajectories"`` of the task, or, as the code has it, over its
            ``"step_rows"``, where a trajectory counts once for each of its steps.
        advantages: one a trajectory, instead of the first term.
        convention: ddof, eps and what a task of one trajectory or without spread gets. Default ``conventions.G2PO``:
            sample standard deviation plus 1e-6, a lone reward stays. A state visited once gets 0 from ``z_state`` and a
            task of one step 0 from the third term, whatever ``singleton`` says.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards``. With ``nan="propagate"`` a task with a reward that is
        not finite is NaN.

    Raises:
        ValueError: wrong lengths; rewards that are not finite unless ``nan="propagate"``, or that require grad;
            ``gamma`` out of range; groups of one or without spread where a policy says raise.

    Source: G2PO, arXiv 2606.22995. The official code, Nala-YN/G2PO, was executed and agrees with
    ``statistics="step_rows"``; the paper, from secondary descriptions with its formulas, has the trajectories.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0] * 4)
    >>> g2po(steps, [1.0, 0.0], gamma=1.0, scale="none").tolist()
    [1.5, 0.5, -1.5, -0.5]
    """
    who = "g2po"
    made = as_steps(who, steps)
    rules = resolve(who, "g2po", convention, override)
    omega, penalty = real(who, "weight", weight), real(who, "invalid_penalty", invalid_penalty)
    refused = None if invalid is None else mask(who, "invalid", invalid, len(made), "the number of rows")
    r, lost, back = rewards_of(who, made, rewards, rules)
    after = r if terminal is None else per_trajectory(who, made, "terminal", terminal, None)[0]

    states = made.groups(by="state")
    outcome = np.where(made.last, r[made.trajectory_index], 0.0)
    v = np.asarray(segment_broadcast(gamma * returns_of(who, made, outcome, gamma), states))
    ahead = np.where(made.last, after[made.trajectory_index], v[made.next])
    local = ahead if refused is None else np.where(refused, ahead - penalty, ahead)
    step = among_steps(who, local, states, rules, scale)
    step += among_steps(who, ahead - v, made.row_groups, rules, scale, what="task")
    out = episode_term(who, made, r, advantages, rules, scale=scale, statistics=statistics)
    return back(np.where(lost, np.nan, out + omega * step))
