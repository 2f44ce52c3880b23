"""RTMC: what an action was worth in a state, by the returns of all rollouts that were there."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.graph._common import per_trajectory, returns_of, reward_of_steps, total_of
from rollmath.graph._terms import added
from rollmath.groups import Groups
from rollmath.ops import gather, segment_broadcast, segment_count
from rollmath.steps import Steps, as_steps


def rtmc(
    steps: Steps,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    gamma: float = 0.99,
    visits: Literal["first", "every"] = "first",
    n_prior: float = 2.0,
    advantages: ArrayLike | None = None,
) -> Array:
    """RTMC: ``A(s, a) = Q(s, a) - V(s)``, means of the returns ``G_t = r_t + gamma G_{t+1}`` over visits.

    ``Q(s, a)`` is the mean over the visits of the pair and ``V(s) = sum_a N(s, a) Q(s, a) / N(s)`` that over the same
    visits of the state; for a state seen rarely it is drawn to the mean reward ``m`` of the task's trajectories:
    ``V(s) <- (N(s) V(s) + n_prior m) / (N(s) + n_prior)``.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned.
        gamma: discount per step, in [0, 1].
        visits: ``"first"``: in each trajectory the first time that it takes the action in the state, so that every
            trajectory counts once; ``"every"``: every time.
        n_prior: visits that the mean reward counts as; 0 for none.
        advantages: of the trajectories, to be added, such as those of :func:`rollmath.group.grpo`.

    Returns:
        ``[n_rows]``, in the kind and float type of what was given. With ``n_prior=0`` the advantages of the counted
        visits of a state sum to 0, and a state in which all took the same action gives 0. ``m`` is not discounted.

    Raises:
        ValueError: wrong lengths; both or none of the rewards; rewards that are not finite or that require grad;
            ``gamma`` or ``n_prior`` out of range.

    The paper divides by the standard deviation of the task's advantages as an option:
    ``ops.normalize(a, steps.row_groups, center="none")``.

    Source: RTMC, arXiv 2604.11037, from secondary descriptions, among them one with the formulas of ``Q`` and ``V`` and
    a port by others with first visits, gamma 0.99 and the prior; that the prior counts 2 visits is that port's word
    alone. No official code found.

    >>> steps = Steps([0, 0, 1, 1], ["a", "b", "a", "b"], ["l", "l", "l", "r"], groups=[0] * 4)
    >>> rtmc(steps, [0.0, 1.0], gamma=1.0, n_prior=0.0).tolist()
    [0.0, -0.5, 0.0, 0.5]
    """
    who = "rtmc"
    made = as_steps(who, steps)
    choice(who, "visits", visits, ("first", "every"))
    prior = real(who, "n_prior", n_prior, 0.0)
    r, back = reward_of_steps(who, made, rewards, step_rewards, None)
    returns = returns_of(who, made, r, gamma)

    pairs, states = made.groups(by="action"), made.groups(by="state")
    counted = np.ones(len(made), bool)
    if visits == "first":
        own = Groups.product(pairs, made.trajectory_index)
        counted = made.position == segment_broadcast(made.position, own, how="min")
    q = segment_broadcast(returns, pairs, valid=counted)
    v = segment_broadcast(returns, states, valid=counted)
    if prior:
        total = total_of(made, r) if rewards is None else per_trajectory(who, made, "rewards", rewards, None)[0]
        m = np.asarray(segment_broadcast(total, made.trajectory_groups))[made.trajectory_index]
        n = gather(segment_count(states, valid=counted), states)
        v = (n * v + prior * m) / (n + prior)
    out = q - v
    return back(out if advantages is None else out + added(who, made, advantages, None))
