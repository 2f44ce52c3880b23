"""Stratified GRPO: rollouts compared with their like."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real, whole
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_count


def stratified(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    strata: Groups | ArrayLike,
    blend: float = 1.0,
    min_stratum: int = 1,
    scale: Literal["std", "none"] = "std",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Stratified advantages: ``A_i = blend S_i + (1 - blend) G_i``, each ``(r_i - mean) / (std + eps)``.

    ``S`` takes mean and standard deviation over the rollouts of the same group *and* stratum, ``G`` over the group. A
    stratum is what makes rollouts of a prompt comparable: their number of tool calls, whether they had a hint. Without
    the scale, S has the variance of G less that of the strata's means, ``sum_k n_k / n (mean_k - mean)^2``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        strata: one id a rollout, ``[N]``, or a :class:`~rollmath.Groups`; equal ids of different groups are different
            strata. Numbers that vary finely make strata of one: bin them first.
        blend: weight of S, 0 to 1; 1 is strata alone, 0 is ``grpo``.
        min_stratum: a stratum of fewer valid rollouts than this gets G in place of the blend. Ours, not the paper's; 1
            turns it off, 2 gives the loners of a group something.
        scale: ``"std"``, or ``"none"`` for centred rewards: separate groups for hinted and plain rollouts, as in POPE.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: of both parts; ``singleton`` is what a stratum of one gets as S. Default 0, where the one other
            implementation that we know returns NaN (``conventions.GRPO_COMPOSER``).
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; for ``blend=1`` exactly 0 in strata of at least
        ``min_stratum`` equal rewards.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); ``blend`` or
            ``min_stratum`` out of range; a stratum of one under ``singleton="raise"``.
        TypeError: wrong dtype or rank.

    Source: Zhu et al. 2025, Stratified GRPO, arXiv 2510.06214 (secondary descriptions; the paper's blend and ddof are
    unverified); grpo-composer's code was executed. POPE: arXiv 2601.18779 (secondary description).

    >>> stratified([1.0, 1, 0, 1, 0, 0], [0] * 6, strata=[2, 2, 2, 2, 0, 0], scale="none").tolist()
    [0.25, 0.25, -0.75, 0.25, 0.0, 0.0]
    """
    choice("stratified", "scale", scale, ("std", "none"))
    share = real("stratified", "blend", blend, low=0.0, high=1.0)
    fewest = whole("stratified", "min_stratum", min_stratum)
    rules = resolve("stratified", "stratified", convention, override)
    r = read("stratified", rewards, groups, valid, rules)
    cells = Groups.product(r.groups, as_groups("stratified", strata, length=len(r.groups), name="strata"))
    sizes = segment_count(cells, valid=r.seen)[cells.index]
    large = (sizes >= fewest) | ~r.mask
    lone = np.flatnonzero(r.mask & large & (sizes == 1))
    if rules.singleton == "raise" and share > 0 and len(lone):
        msg = (
            f"stratified(): 'strata' has a stratum with one valid member (row {lone[0]}); choose singleton='zero', "
            "'raw', 'abs' or 'nan', or min_stratum=2"
        )
        raise ValueError(msg)
    out = np.zeros(len(r.x))
    if share > 0:
        out += share * r.normalize(groups=cells, valid=r.mask & large, center="mean", scale=scale)
    if share < 1 or not large.all():
        by_group = r.normalize(center="mean", scale=scale)
        out = np.where(large, out + (1 - share) * by_group if share < 1 else out, by_group)
    return r.wrap(out)
