"""BNPO: centred rewards over a Beta density that is fitted to the batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import BetaPdf, moments, segment_count, segment_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def bnpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    max_weight: float = 1e6,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Beta normalisation: ``A_i = (r_i - p) min(1 / f(p), max_weight)``, p the group's mean, f a Beta density.

    Its parameters are fitted to the batch. With m and v the mean and sample variance of the groups' means,
    ``c = m (1 - m) / v - 1``, ``alpha = max(1, 1 + c m / 3)`` and ``beta = max(1, 1 + c (1 - m) / 3)``: prompts are
    weighted down where the batch has many of their difficulty. alpha = beta = 1 is ``dr_grpo``; 3/2 is, up to a
    factor, ``grpo`` with ``ddof=0`` for 0/1 rewards.

    Args:
        rewards: one number a rollout, ``[N]``, in [0, 1]: 0/1 rewards, or scaled to that range.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        max_weight: bound of 1 / f(p).
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here: the paper has no eps, and the ddof is that of v, 1. A
            group of one has no say in m and v.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; sums to 0 over a group, exactly 0 where all its rewards are
        equal. Never NaN without a NaN reward: fewer than two groups of two, or means that do not vary (v up to 1e-12),
        give alpha = beta = 1, our choice for the latter, where the authors' code gives NaN or an error.

    Raises:
        ValueError: rewards outside [0, 1]; wrong lengths; NaN (unless ``nan=`` says otherwise); a ``max_weight`` that
            is not positive and finite.
        TypeError: wrong dtype or rank.

    Source: Xiao et al. 2025, BNPO, arXiv 2506.02864 (secondary description); the authors' code was executed. It takes 0
    for the mean of a group of one. For several rewards the authors average the advantages of each. TRL's
    ``loss_type="bnpo"`` is something else: a mean over the tokens of the local batch.

    >>> bnpo([1, 0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 1, 1]).round(4).tolist()
    [0.7166, -0.2389, -0.2389, -0.2389, 0.2389, 0.2389, 0.2389, -0.7166]
    """
    most = real("bnpo", "max_weight", max_weight, above=0.0)
    if math.isinf(1 / most):
        msg = f"bnpo(): 'max_weight' must have a finite inverse, got {max_weight}"
        raise ValueError(msg)
    rules = resolve("bnpo", "bnpo", convention, override)
    # max(f, 1 / max_weight) in the denominator is the bound of the weight.
    r = read("bnpo", rewards, groups, valid, replace(rules, eps=1 / most, eps_place="max"))
    wrong = np.flatnonzero(r.mask & ((r.x < 0) | (r.x > 1)))
    if len(wrong):
        msg = f"bnpo(): 'rewards' must be between 0 and 1, got {r.x[wrong[0]]} at index {wrong[0]}; scale them"
        raise ValueError(msg)
    p = np.asarray(segment_mean(r.x, r.groups, valid=r.seen))
    several = (segment_count(r.groups, valid=r.seen) > 1) & ~np.isnan(p)
    return r.wrap(r.normalize(center="mean", scale=_fit(p[several])))


def _fit(p: NDArray[np.float64]) -> BetaPdf:
    batch = moments(p)
    m, v = batch.mean, batch.var(ddof=1)
    # Also where v is NaN, for fewer than two groups.
    if not v > 1e-12:
        return BetaPdf(1.0, 1.0)
    c = m * (1 - m) / v - 1
    return BetaPdf(max(1.0, 1 + c * m / 3), max(1.0, 1 + c * (1 - m) / 3))
