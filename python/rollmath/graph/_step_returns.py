"""Returns of steps, and of segments of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.graph._common import returns_of, reward_of_steps
from rollmath.groups import Groups, as_groups
from rollmath.ops import discounted_sum, segment_sum
from rollmath.ragged import Ragged
from rollmath.steps import Steps, as_steps

if TYPE_CHECKING:
    from numpy.typing import NDArray


def step_returns(
    steps: Steps, rewards: ArrayLike | None, *, step_rewards: ArrayLike | None = None, gamma: float = 1.0
) -> Array:
    """The discounted return of each step: ``G_t = r_t + gamma G_{t+1}``, within its trajectory.

    Args:
        steps: a :class:`~rollmath.Steps`.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, which counts at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned: the outcome of the trajectory is a reward
            of its last step.
        gamma: discount from step to step, in [0, 1].

    Returns:
        ``[n_rows]`` in the order of the rows, in the kind and float type of what was given.

    Raises:
        ValueError: both or none of the rewards, since an outcome that is in the rewards of the steps, too, would count
            twice; wrong lengths; rewards that are not finite or require grad; ``gamma`` outside [0, 1].

    Source: Williams 1992; Sutton and Barto 2018, chapter 3.

    >>> steps = Steps([0, 1, 0, 1, 0], list("abcde"), groups=[0, 0])
    >>> step_returns(steps, [1.0, 8.0], gamma=0.5).tolist()
    [0.25, 4.0, 0.5, 8.0, 1.0]
    """
    who = "step_returns"
    made = as_steps(who, steps)
    x, back = reward_of_steps(who, made, rewards, step_rewards, None)
    return back(returns_of(who, made, x, gamma))


def segment_returns(
    steps: Steps,
    segments: Groups | ArrayLike,
    rewards: ArrayLike | None,
    *,
    step_rewards: ArrayLike | None = None,
    gamma: float = 1.0,
    discount: Literal["step", "segment"] = "step",
) -> Array:
    """The return of its segment for each step: ``G_s = r_s + gamma G_{s+1}`` at the segment's first step.

    A segment is a run of steps of a trajectory that is judged as one action: a turn of several tool calls, a subgoal.

    Args:
        steps: a :class:`~rollmath.Steps`.
        segments: one id a row, whatever :class:`~rollmath.Groups` takes. Equal ids are one segment within a trajectory,
            whose steps must follow each other; other trajectories may use the same ids.
        rewards: the outcome, one number a trajectory, ``[n_trajectories]``, at its last step; None with
            ``step_rewards``.
        step_rewards: one number a row instead, all that the step has earned.
        gamma: discount, in [0, 1].
        discount: ``"step"``: from step to step, as in :func:`step_returns`; ``"segment"``: from segment to segment,
            ``r_s`` being the plain sum of the rewards of segment ``s``, as where turns are the actions.

    Returns:
        ``[n_rows]`` in the order of the rows, the same for all steps of a segment, in the kind and float type of what
        was given. With one step a segment it is :func:`step_returns`; with ``gamma=1`` both discounts agree.

    Raises:
        ValueError: a segment whose steps do not follow each other; else as :func:`step_returns`.
        TypeError: as :func:`step_returns`.

    For tokens of turns rather than steps there are ``temporal.turn_gae`` and ``temporal.expand_turns``.

    Source: a definition of ours, of the returns in turn-level MDPs (Turn-PPO, arXiv 2512.17008, secondary description).

    >>> steps = Steps([0, 0, 0], ["ask", "call", "answer"], groups=[0])
    >>> segment_returns(steps, ["turn 1", "turn 1", "turn 2"], [8.0], gamma=0.5).tolist()
    [2.0, 2.0, 8.0]
    >>> segment_returns(steps, ["turn 1", "turn 1", "turn 2"], [8.0], gamma=0.5, discount="segment").tolist()
    [4.0, 4.0, 8.0]
    """
    who = "segment_returns"
    made = as_steps(who, steps)
    choice(who, "discount", discount, ("step", "segment"))
    ids = as_groups(who, segments, length=len(made), why="the number of rows", name="segments")
    x, back = reward_of_steps(who, made, rewards, step_rewards, None)
    decay = real(who, "gamma", gamma, 0.0, 1.0)
    own = Groups.product(made.groups(by="trajectory"), ids)
    starts = _starts(who, made, own, ids)

    first = made.order[starts]
    out = np.zeros(own.n_groups)
    if discount == "step":
        out[own.index[first]] = returns_of(who, made, x, decay)[first]
    else:
        earned = np.asarray(segment_sum(x, own))[own.index[first]]
        each = Ragged(earned, np.searchsorted(starts, made.offsets))
        out[own.index[first]] = np.asarray(discounted_sum(each, decay=decay, name="rewards", who=who).values)
    return back(out[own.index])


def _starts(who: str, steps: Steps, own: Groups, ids: Groups) -> NDArray[np.int64]:
    """Places in ``steps.order`` where segments begin."""
    inside = own.index[steps.order]
    starts = np.flatnonzero(np.diff(inside, prepend=-1))
    if len(starts) > own.n_groups:
        runs = inside[starts]
        again = starts[np.setdiff1d(np.arange(len(runs)), np.unique(runs, return_index=True)[1])[0]]
        row = int(steps.order[again])
        name = steps.trajectory_ids[steps.trajectory_index[row]]
        msg = (
            f"{who}(): 'segments' must be runs of steps, but {ids.ids[ids.index[row]]!r} of trajectory {name!r} goes "
            f"on at row {row} after another segment; number segments that come back anew"
        )
        raise ValueError(msg)
    return starts
