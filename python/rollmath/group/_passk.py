"""Advantages for the best of k: the winner's margin, and pass@k in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import whole
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import Rewards, read
from rollmath.groups import Groups
from rollmath.ops import WeightedMean, segment_count, segment_max, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray


def passk(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    scale: Literal["none", "std"] = "none",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Leave-one-out maximum: ``A_i = max(r) - max_{j != i}(r_j)``, the margin of the best, 0 for the rest.

    What the group's maximum would lose without rollout i: the objective is the best of the whole group, pass@n. For
    pass@k of subsets see :func:`passk_training`; :func:`rollmath.metrics.pass_at_k` is the metric. verl's
    ``adv_estimator=grpo_passk`` is ``passk(..., convention=VERL, **VERL.options["passk"])``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        scale: ``"none"``, or ``"std"`` to divide by the standard deviation of the group, verl's default
            (``conventions.VERL.options["passk"]``).
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: ``singleton`` and ``nan``; for ``scale="std"`` all of it. verl refuses groups of one.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. 0 for all if several are best. Not centred: it sums to the
        winner's margin.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); an unknown ``scale``.
        TypeError: wrong dtype or rank.

    Source: Tang et al. 2025, Optimizing Language Models for Inference Time Objectives using RL, arXiv 2503.19595;
    known from verl's ``grpo_passk``, which was executed.

    >>> passk([0.2, 0.9, 0.5, 1.0, 1.0], ["a", "a", "a", "b", "b"]).tolist()
    [0.0, 0.4, 0.0, 0.0, 0.0]
    """
    choice("passk", "scale", scale, ("none", "std"))
    rules = resolve("passk", "passk", convention, override)
    r = read("passk", rewards, groups, valid, rules)
    best, second = _podium(r)
    # The weighted mean of equal values is exactly that value; a NaN that may spread is in it.
    out = r.normalize(center=WeightedMean((second | np.isnan(r.x)).astype(np.float64)), scale=scale)
    out[~best & ~np.isnan(out)] = 0.0
    return r.wrap(out)


def _podium(r: Rewards) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows of the best value of each group, and those of the second best: the best again if it occurs twice."""
    index = r.groups.index
    best = r.mask & (r.x == segment_max(r.x, r.groups, valid=r.seen)[index])
    rest = r.mask & ~best & ~np.isnan(r.x)
    second = rest & (r.x == segment_max(r.x, r.groups, valid=rest)[index])
    tied = (segment_count(r.groups, valid=best) > 1) | (segment_count(r.groups, valid=rest) == 0)
    return best, np.where(tied[index], best, second)


def passk_training(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    k: int,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Pass@k training without sampling: the mean of ``A_S = (max(r_S) - R) / (sigma + eps)`` over subsets with ``i``.

    ``S`` runs over the subsets of k rollouts of the group, and ``R`` is the share of them that hold a success: with c
    successes among n, ``R = 1 - f`` where ``f = C(n-c, k) / C(n, k)``, and ``sigma = sqrt(R (1 - R))``. In closed form
    a success gets ``f / sigma`` and a failure ``(f - C(n-c-1, k-1) / C(n-1, k-1)) / sigma = -f c / (n - c) / sigma``.
    Not :func:`passk`, the margin of a group's best, nor :func:`rollmath.metrics.pass_at_k`, the metric, which is ``R``.

    Args:
        rewards: 0 or 1 for each rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        k: size of the subsets, 1 to the number of valid rollouts of the smallest group.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: eps, eps_place, singleton and nan. There is no ddof: sigma is that of all subsets.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. Sums to 0 over a group; with ``k=1`` it is ``grpo`` with
        ``ddof=0``. Exactly 0 where every subset, or none, holds a success: from k > n - c on a prompt counts as solved.

    Raises:
        ValueError: rewards other than 0 and 1; a group of fewer than k valid rollouts; wrong lengths.
        TypeError: a ``k`` that is no whole number; wrong dtype or rank.

    Source: Chen et al. 2025, Pass@k Training, arXiv 2508.10751; known from the authors' ``passk_adv.py``,
    which was executed (eps 1e-6, added to sigma). The form for failures without a difference is our algebra.

    >>> passk_training([1, 0, 0, 0], [0, 0, 0, 0], 2, eps=0.0).round(4).tolist()
    [1.0, -0.3333, -0.3333, -0.3333]
    """
    rules = resolve("passk_training", "passk_training", convention, override)
    size = whole("passk_training", "k", k)
    r = read("passk_training", rewards, groups, valid, rules)
    index = r.groups.index
    wrong = np.flatnonzero(r.mask & ~np.isnan(r.x) & (r.x != 0) & (r.x != 1))
    if len(wrong):
        msg = f"passk_training(): 'rewards' must be 0 or 1, got {r.x[wrong[0]]} at index {wrong[0]}"
        raise ValueError(msg)
    n = segment_count(r.groups, valid=r.seen)
    if len(small := np.flatnonzero((n > 0) & (n < size))):
        group = small[0]
        name = r.groups.ids[group]
        msg = f"passk_training(): 'k' must be at most {n[group]}, the valid rollouts of group {name!r}, got {k}"
        raise ValueError(msg)
    c = segment_sum((r.x == 1).astype(np.float64), r.groups, valid=r.seen).astype(np.int64)
    factor, sigma = _subsets(n, c, size)
    # (r - c / n) n f / (n - c) is f for a success and -f c / (n - c) for a failure.
    return r.wrap(r.normalize(r.x * factor[index], center="mean", scale=sigma[index]))


def _subsets(n: NDArray[np.int64], c: NDArray[np.int64], k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``n f / (n - c)`` and ``sigma`` of each group, from exact integers; 0 and 1 for groups without signal."""
    sizes, inverse = np.unique(np.stack([n, c], axis=1), axis=0, return_inverse=True)
    found = []
    for rollouts, successes in sizes.tolist():
        ways, fail = math.comb(rollouts, k), math.comb(rollouts - successes, k)
        if rollouts == 1:
            found.append((1.0, 1.0))  # what the convention says of a group of one
        elif fail in {0, ways}:
            found.append((0.0, 1.0))
        else:
            sigma = math.sqrt((fail / ways) * ((ways - fail) / ways))
            found.append((rollouts * fail / ((rollouts - successes) * ways), sigma))
    table = np.array(found, dtype=np.float64).reshape(-1, 2)[inverse.reshape(-1)]
    return table[:, 0], table[:, 1]
