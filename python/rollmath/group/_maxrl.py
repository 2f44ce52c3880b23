"""MaxRL: centred rewards over the mean of their group."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import segment_count, segment_mean


def maxrl(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Maximum-likelihood RL: ``A_i = (r_i - mean(r)) / (mean(r) + eps)`` over the group; 0 if the mean is <= 0.

    For 0/1 rewards this is 1/p - 1 for a success and -1 for a failure, as p is the success rate of the group: the
    gradient of log p rather than of p, up to the order that the size of the group allows.

    Args:
        rewards: one number a rollout, ``[N]``; meant for 0/1 or at least not negative ones.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: eps, eps_place, singleton and nan. Default: eps 1e-6, as the authors' code and SkyRL have it;
            prime-rl divides by the mean alone (``conventions.PRIME_RL``).
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal. A group of
        several whose mean is 0 or negative gets 0, as prime-rl has it: the quotient would turn the signs around
        (in the authors' code and SkyRL it does). A group of one follows ``singleton``.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), rewards that require grad.
        TypeError: wrong dtype or rank.

    Source: Tajwar et al. 2026, Maximum Likelihood Reinforcement Learning, arXiv 2602.02710 (secondary description); the
    authors' code, SkyRL's and prime-rl's were executed. The authors' code gives a group of one its reward over
    eps, a million times the reward, which no convention reproduces.

    >>> maxrl([1.0, 0.0, 0.0, 0.0], [7, 7, 7, 7], eps=0.0).tolist()
    [3.0, -1.0, -1.0, -1.0]
    """
    rules = resolve("maxrl", "maxrl", convention, override)
    r = read("maxrl", rewards, groups, valid, rules)
    out = r.normalize(center="mean", scale="mean")
    several = segment_count(r.groups, valid=r.seen) > 1
    mean = segment_mean(r.x, r.groups, valid=r.seen)
    flat = several & (mean <= 0) & np.isfinite(mean)
    out[flat[r.groups.index]] = 0.0
    return r.wrap(out)
