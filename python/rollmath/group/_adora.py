"""ADORA: group advantages, weakened where longer answers do not pay."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import finite, mask, real, rows
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, normalize, segment_max, segment_mean


def adora(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    lengths: ArrayLike,
    *,
    weight: float = 0.1,
    correct: ArrayLike | None = None,
    truncated: ArrayLike | None = None,
    no_correct: Literal["scale", "keep"] = "scale",
    no_incorrect: Literal["scale", "keep"] = "keep",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """GRPO times a gate: ``A_i = w (r_i - mean(r)) / (std(r) + eps)`` over the group of ``i``.

    ``w = 1`` if the longest correct rollout of the group is longer than its incorrect ones on average, else ``weight``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        lengths: response length of each rollout in tokens, ``[N]``, not negative.
        weight: what groups that the gate closes are multiplied by.
        correct: which rollouts are correct (bool or int). Default: ``rewards > 0``. The official code has a reward of
            more than 1.01 (language) or 0.5 (vision).
        truncated: rollouts that were cut off; an incorrect one is no part of the mean length. The official code takes
            lengths from 4054 or 4094 on for it. Default: none.
        no_correct: a group without correct rollouts: ``"scale"`` (official language code) or ``"keep"`` (vision).
        no_incorrect: a group with correct but without incorrect ones that were not cut off: ``"keep"`` (language) or
            ``"scale"`` (vision).
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: as for :func:`grpo`.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 for a group without spread.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise) or lengths.
        TypeError: wrong dtype or rank.

    Source: Ren et al. 2026, arXiv 2602.10019 (paper not read; a secondary description has other weights for language
    models); official code of both variants executed, github.com/ShadeCloak/ADORA. The two disagree on groups without
    correct or incorrect rollouts.

    >>> adora([1.0, 0.0, 0.0, 1.0], ["a"] * 4, [50, 80, 90, 60]).round(4).tolist()
    [0.0866, -0.0866, -0.0866, 0.0866]
    >>> adora([1.0, 0.0, 0.0, 1.0], ["a"] * 4, [50, 80, 90, 99]).round(4).tolist()
    [0.866, -0.866, -0.866, 0.866]
    """
    who = "adora"
    for name, value in (("no_correct", no_correct), ("no_incorrect", no_incorrect)):
        choice(who, name, value, ("scale", "keep"))
    factor, rules = real(who, "weight", weight), resolve(who, who, convention, override)
    made = as_groups(who, groups)
    r, back = rows(who, "rewards", rewards, len(made))
    size, _ = rows(who, "lengths", lengths, len(made))
    seen = mask(who, "valid", valid, len(made))
    if rules.nan == "omit":
        seen &= ~np.isnan(r)
    finite(who, "lengths", size, seen, must="finite and not negative")
    right = r > 0 if correct is None else mask(who, "correct", correct, len(made))
    cut = np.zeros(len(made), dtype=bool) if truncated is None else mask(who, "truncated", truncated, len(made))
    z = normalize(r, made, valid=seen, convention=rules, name="rewards", who=who)
    # NaN where there is no such rollout; it compares as false.
    longest = segment_max(size, made, valid=seen & right)
    others = segment_mean(size, made, valid=seen & ~right & ~cut)
    opened = np.where(np.isnan(others), no_incorrect == "keep", longest > others)
    opened = np.where(np.isnan(longest), no_correct == "keep", opened)
    return back(np.where(gather(opened, made), z, factor * z))
