"""The length reward of Kimi k1.5."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import column, correct_rows, mask, real
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_max, segment_min


def kimi_length_reward(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    lengths: ArrayLike,
    *,
    correct: ArrayLike | None = None,
    weight: float = 1.0,
    valid: ArrayLike | None = None,
) -> Array:
    """Short is better: ``weight lam_i`` if correct, else ``weight min(0, lam_i)``.

    ``lam_i = 0.5 - (L_i - min(L)) / (max(L) - min(L))`` over the group: from 0.5 for the shortest rollout to -0.5 for
    the longest. A wrong rollout is never paid for being short. The rewards are not part of the result; add them:
    ``rewards + kimi_length_reward(rewards, groups, lengths, weight=0.5)``.

    Args:
        rewards: one number a rollout, ``[N]``; only which are correct matters.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        lengths: tokens of each rollout, ``[N]``, not negative.
        correct: correct rollouts (bool or int, nonzero = True). Default: reward > 0.
        weight: at least 0; the paper warms it up, and gives no number.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter neither minimum nor maximum and
            get 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all lengths of a group are equal.

    Raises:
        ValueError: wrong lengths; NaN, infinite or negative numbers where none may be.
        TypeError: wrong dtype or rank.

    Source: Kimi k1.5, arXiv 2501.12599, length penalty; secondary descriptions that agree, unverified.

    >>> kimi_length_reward([1, 1, 0], ["a", "a", "a"], [100, 200, 300]).tolist()
    [0.5, 0.0, -0.5]
    """
    who = "kimi_length_reward"
    scale = real(who, "weight", weight, low=0.0)
    made = as_groups(who, groups)
    seen = mask(who, "valid", valid, len(made))
    r, back = column(who, "rewards", rewards, seen)
    size, _ = column(who, "lengths", lengths, seen, must="finite and not negative")
    low = np.nan_to_num(segment_min(size, made, valid=seen))[made.index]
    span = np.nan_to_num(segment_max(size, made, valid=seen))[made.index] - low
    lam = np.where(span > 0, 0.5 - (size - low) / np.where(span > 0, span, 1.0), 0.0)
    paid = np.where(correct_rows(who, correct, r), lam, np.minimum(lam, 0.0))
    return back(np.where(seen, scale * paid, 0.0))
