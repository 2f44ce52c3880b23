"""RTMC: what an action was worth in a state, by the returns of all rollouts that were there."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.graph._common import discounted_returns, row_values, trajectory_values
from rollmath.groups import Groups
from rollmath.ops import gather, segment_count, segment_mean, segment_min, segment_sum
from rollmath.steps import Steps, as_steps


def rtmc(
    steps: Steps,
    rewards: ArrayLike,
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
        rewards: one number a trajectory, received with its last step.
        step_rewards: one a row, besides.
        gamma: discount per step, in [0, 1].
        visits: ``"first"``: in each trajectory the first time that it takes the action in the state, so that every
            trajectory counts once; ``"every"``: every time.
        n_prior: visits that the mean reward counts as; 0 for none.
        advantages: of the trajectories, to be added, such as those of :func:`rollmath.group.grpo`.

    Returns:
        ``[n_rows]``, in the kind and float type of ``rewards``. With ``n_prior=0`` the advantages of the counted visits
        of a state sum to 0, and a state in which all took the same action gives 0. ``m`` is not discounted.

    Raises:
        ValueError: wrong lengths; rewards that are not finite or that require grad; ``gamma`` or ``n_prior`` out of
            range.

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
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    choice(who, "visits", visits, ("first", "every"))
    prior = real(who, "n_prior", n_prior, 0.0)
    r, back = trajectory_values(who, "rewards", rewards, made)
    dense = None if step_rewards is None else row_values(who, "step_rewards", step_rewards, made)
    returns = discounted_returns(made, r, discount, dense)

    pairs, states = made.groups(by="action"), made.groups(by="state")
    counted = np.ones(len(made), bool)
    if visits == "first":
        own = Groups.product(pairs, made.trajectory_index)
        counted = made.position == gather(segment_min(made.position, own), own)
    q = gather(segment_mean(returns, pairs, valid=counted), pairs)
    v = gather(segment_mean(returns, states, valid=counted), states)
    if prior:
        total = r if dense is None else r + _per_trajectory(made, dense)
        m = made.gather(gather(segment_mean(total, made.trajectory_groups), made.trajectory_groups))
        n = gather(segment_count(states, valid=counted), states)
        v = (n * v + prior * m) / (n + prior)
    out = q - v
    if advantages is not None:
        out = out + made.gather(trajectory_values(who, "advantages", advantages, made)[0])
    return back(out)


def _per_trajectory(steps: Steps, x: Array) -> Array:
    """The sum over the rows of each trajectory, 0 for one without rows."""
    present = Groups(steps.trajectory_index)
    out = np.zeros(steps.n_trajectories)
    out[steps.trajectory_index[present.first]] = segment_sum(x, present)
    return out
