"""ASPO: advantages shaped by how early a correct rollout calls its tool."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import finite, mask, real, required_mask, rows
from rollmath.conventions import Convention
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, normalize, segment_mean


def aspo(
    advantages: ArrayLike,
    groups: Groups | ArrayLike,
    positions: ArrayLike,
    lengths: ArrayLike,
    *,
    correct: ArrayLike,
    used: ArrayLike | None = None,
    delta: float = -2.0,
    k: float = 0.7,
    valid: ArrayLike | None = None,
) -> Array:
    """Advantage shaping: ``A_i + clip(delta (p_i - mean(p)) / mean(L), -k abs(A_i), k abs(A_i))``.

    For rollouts that are correct and used the tool; the means are over those of the same group. All others keep
    ``A_i``. With ``k < 1`` no sign changes: a correct rollout is never punished for a late call, as it would be if the
    position were part of the reward.

    Args:
        advantages: advantages of correctness alone (those of :func:`grpo`, say), one a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        positions: token position of the first tool call in the response, ``[N]``; negative or NaN where there is none.
        lengths: response length in tokens, ``[N]``, positive.
        correct: which rollouts are correct (bool or int, nonzero = True), ``[N]``.
        used: which rollouts used the tool. Default: those whose position is at least 0.
        delta: weight of the position, negative to favour early calls (positive would favour late ones).
        k: bound of the shaping as a share of the advantage, at least 0.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.

    Returns:
        ``[N]``, in the kind and float type of ``advantages``. A group with one such rollout, or with equal positions,
        is exactly unchanged.

    Raises:
        ValueError: wrong lengths; NaN or infinite numbers, or lengths that are not positive, where they matter.
        TypeError: wrong dtype or rank.

    Source: Lin and Xu 2025, arXiv 2508.19201, equation 2; paper text. Its section 4.5 has delta -2.0 with k 0.7, and
    -2.5 with 0.9; the legends of its figures 5 and 6 say 1.5 and 2 for the size of delta. Not the "asymmetric
    importance sampling" ASPO (arXiv 2510.06062).

    >>> aspo([0.8, 0.8, 0.8, -2.4], [0] * 4, [100, 300, 500, 50], [600, 800, 1000, 90], correct=[1, 1, 1, 0]).tolist()
    [1.3, 0.8, 0.30000000000000004, -2.4]
    """
    who = "aspo"
    slope, bound = real(who, "delta", delta), real(who, "k", k, low=0.0)
    made = as_groups(who, groups)
    a, back = rows(who, "advantages", advantages, len(made))
    p, _ = rows(who, "positions", positions, len(made))
    size, _ = rows(who, "lengths", lengths, len(made))
    seen = mask(who, "valid", valid, len(made))
    finite(who, "advantages", a, seen)
    chosen = seen & required_mask(who, "correct", correct, len(made))
    chosen &= p >= 0 if used is None else mask(who, "used", used, len(made))
    finite(who, "positions", p, chosen, must="finite and not negative")
    finite(who, "lengths", size, chosen, must="finite and positive")
    mean = gather(segment_mean(size, made, valid=chosen), made)
    late = normalize(p, made, scale=mean, valid=chosen, convention=Convention(eps=0.0), name="positions", who=who)
    limit = bound * np.abs(a)
    return back(np.where(seen, a + np.where(chosen, np.clip(slope * late, -limit, limit), 0.0), 0.0))
