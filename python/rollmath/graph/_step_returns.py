"""Returns of steps, and of segments of steps."""

from __future__ import annotations

from rollmath._arrays import Array, ArrayLike
from rollmath.graph._common import returns_of, reward_of_steps
from rollmath.steps import Steps, as_steps


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
