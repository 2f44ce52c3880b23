"""PSR, NSR and W-REINFORCE: fixed weights for correct and wrong rollouts, no group and no baseline."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import finite, mask, real, rows


def w_reinforce(
    rewards: ArrayLike,
    *,
    positive: float = 0.1,
    negative: float = -1.0,
    threshold: float = 0.5,
    valid: ArrayLike | None = None,
) -> Array:
    """Weighted REINFORCE: ``A_i = positive if r_i > threshold else negative``.

    Reinforcing successes concentrates a policy, penalising failures keeps it diverse; ``positive`` below 1 keeps a
    little of the first.

    Args:
        rewards: one number a rollout, ``[N]``.
        positive: advantage of correct rollouts, at least 0 (the paper's lambda).
        negative: advantage of the others, at most 0.
        threshold: a rollout is correct if its reward is larger. The published code asks for a reward of exactly 1
            (correct) or 0 (wrong); for rewards of 0 and 1 the default is the same, for -1 and 1 take 0.
        valid: rollouts that take part (bool or int, nonzero = True); the others get 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. A batch without correct (or wrong) rollouts is no special
        case: nothing is divided.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards, a negative ``positive``, a positive ``negative``.
        TypeError: wrong dtype or rank.

    Source: Zhu et al. 2025, arXiv 2506.01347; official code executed.

    >>> w_reinforce([1.0, 0.0]).tolist()
    [0.1, -1.0]
    """
    return _weigh("w_reinforce", rewards, positive, negative, threshold, valid)


def psr(rewards: ArrayLike, *, threshold: float = 0.5, valid: ArrayLike | None = None) -> Array:
    """Positive sample reinforcement: ``A_i = 1 if r_i > threshold else 0``.

    The published code drops the wrong rollouts from the batch. With the 0 that they get here they add nothing to a
    policy gradient either, but count where a loss divides by the number of tokens: leave them out of that number to
    have the same step size.

    Args:
        rewards: one number a rollout, ``[N]``.
        threshold: a rollout is correct if its reward is larger; see :func:`w_reinforce`.
        valid: rollouts that take part; the others get 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; all 0 if nothing is correct.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards.
        TypeError: wrong dtype or rank.

    Source: Zhu et al. 2025, arXiv 2506.01347; official code executed.

    >>> psr([1.0, 0.0]).tolist()
    [1.0, 0.0]
    """
    return _weigh("psr", rewards, 1.0, 0.0, threshold, valid)


def nsr(rewards: ArrayLike, *, threshold: float = 0.5, valid: ArrayLike | None = None) -> Array:
    """Negative sample reinforcement: ``A_i = 0 if r_i > threshold else -1``.

    Args:
        rewards: one number a rollout, ``[N]``.
        threshold: a rollout is correct if its reward is larger; see :func:`w_reinforce`.
        valid: rollouts that take part; the others get 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; all 0 if everything is correct. About correct rollouts in
        the loss's number of tokens see :func:`psr`.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards.
        TypeError: wrong dtype or rank.

    Source: Zhu et al. 2025, arXiv 2506.01347; official code executed.

    >>> nsr([1.0, 0.0]).tolist()
    [0.0, -1.0]
    """
    return _weigh("nsr", rewards, 0.0, -1.0, threshold, valid)


def _weigh(
    who: str, rewards: ArrayLike, positive: float, negative: float, threshold: float, valid: ArrayLike | None
) -> Array:
    plus, minus = real(who, "positive", positive, low=0.0), real(who, "negative", negative, high=0.0)
    border = real(who, "threshold", threshold)
    r, back = rows(who, "rewards", rewards)
    seen = mask(who, "valid", valid, len(r), why="len(rewards)")
    finite(who, "rewards", r, seen)
    return back(np.where(seen, np.where(r > border, plus, minus), 0.0))
