"""REINFORCE over steps: the return of each step against a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.graph._common import returns_of, reward_of_steps
from rollmath.graph._terms import against, among_steps
from rollmath.groups import Groups
from rollmath.ops import segment_broadcast, segment_count
from rollmath.steps import Steps, as_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step_reinforce(
    steps: Steps,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    gamma: float = 1.0,
    baseline: Literal["none", "task", "position", "state"] = "task",
    leave_one_out: bool = False,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """REINFORCE over steps: ``A_t = G_t - b``, return of a step less the mean return of rows to compare it with.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned.
        gamma: discount from step to step, in [0, 1].
        baseline: the rows that ``b`` is the mean of: ``"none"`` 0; ``"task"`` all steps of the task; ``"position"`` the
            steps of the task with the same place in their trajectory; ``"state"`` those in the same state. Where the
            policy chooses when to stop, ``"position"`` is biased: of ``n`` trajectories that still run the mean has one
            n-th from the row itself, so that late steps count less, and the last one running not at all.
        leave_one_out: the mean is over the rows of the *other* trajectories in the group. It then does not depend on
            the step's own action, so that with ``singleton="raw"`` the gradient estimate is unbiased for each of the
            baselines. The mean over all rows has the row itself, and what came after it.
        convention: only ``singleton`` and ``nan`` matter: rows without others in their group get 0 by default, their
            return with ``singleton="raw"``.
        **override: fields of the convention.

    Returns:
        ``[n_rows]``, in the kind and float type of what was given; exactly 0 where all returns of a group are equal,
        unless ``baseline="none"``.

    Raises:
        ValueError: wrong lengths; both or none of the rewards; NaN or infinite rewards unless ``nan=`` says otherwise;
            options out of range; rows without others with ``singleton="raise"``.
        TypeError: ``steps`` that are no Steps; a wrong dtype or rank.

    To divide by a spread, too, give :func:`step_returns` to ``ops.normalize`` with the groups of the baseline. To give
    each step the advantage of its trajectory, ``steps.gather(group.rloo(rewards, steps.trajectory_groups))``. Returns
    come first here: where rewards are centred turn by turn and then summed up, the number of baselines that are taken
    off depends on when the trajectory stops, which no leaving out repairs (verl-project/verl, RFC 7244).

    Source: REINFORCE with a baseline, Williams 1992, over steps; the choice of baselines and the rule of
    ``leave_one_out`` are ours, unbiased by enumeration in a test.

    >>> steps = Steps([0, 0, 1], ["hall", "room", "hall"], groups=[0, 0])
    >>> step_reinforce(steps, [4.0, 1.0], gamma=0.5).round(4).tolist()
    [-0.3333, 1.6667, -1.3333]
    >>> step_reinforce(steps, [4.0, 1.0], gamma=0.5, leave_one_out=True, baseline="position").tolist()
    [1.0, 0.0, -1.0]
    """
    who = "step_reinforce"
    made, rules = as_steps(who, steps), resolve(who, who, convention, override)
    choice(who, "baseline", baseline, ("none", "task", "position", "state"))
    others = flag(who, "leave_one_out", leave_one_out)
    x, back = reward_of_steps(who, made, rewards, step_rewards, rules.nan)
    returns = returns_of(who, made, x, gamma)

    if baseline == "none":
        return back(np.where(np.isnan(returns), 0.0, returns) if rules.nan == "omit" else returns)
    if baseline == "position":
        groups = Groups.product(made.row_groups, Groups(made.position))
    else:
        groups = made.groups(by=baseline)
    if others:
        return back(_without_own(who, made, returns, groups, rules, baseline))
    return back(against(who, returns, groups, rules, "none", what=baseline))


def _without_own(
    who: str, steps: Steps, x: NDArray[np.float64], groups: Groups, rules: Convention, what: str
) -> NDArray[np.float64]:
    """Each row less the mean of the rows of its group, a ``what``, that belong to other trajectories."""
    seen = ~np.isnan(x) if rules.nan == "omit" else np.ones(len(x), bool)
    own = Groups.product(groups, steps.groups(by="trajectory"))
    n = segment_count(groups, valid=seen)[groups.index] - segment_count(own, valid=seen)[own.index]
    alone = seen & (n == 0)
    if rules.singleton == "raise" and alone.any():
        row = int(np.argmax(alone))
        msg = (
            f"{who}(): 'steps' has a {what} with rows of one trajectory alone (that of row {row}); choose "
            "singleton='zero', 'raw', 'abs' or 'nan'"
        )
        raise ValueError(msg)
    # Centred first: sums over many rows of a large return would lose its digits.
    c = among_steps(who, x, groups, rules, "none")
    rest = segment_broadcast(c, groups, how="sum", valid=seen) - segment_broadcast(c, own, how="sum", valid=seen)
    out: NDArray[np.float64] = c - np.divide(rest, n, out=np.zeros(len(x)), where=n > 0)
    lone = {"zero": 0.0, "nan": np.nan}.get(rules.singleton, x)
    return np.where(seen, np.where(alone, lone, out), 0.0)
