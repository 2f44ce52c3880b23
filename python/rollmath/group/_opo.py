"""Weighted baselines: OPO, which weighs by length, and the general one."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import column
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import WeightedMean, gather, segment_count, segment_max


def optimal_baseline(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    weights: ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Rewards against a weighted mean of their group: ``A_i = r_i - sum_j w_j r_j / sum_j w_j``.

    With ``w_j`` the squared norm of the gradient of rollout j's log-probability this is the scalar baseline of least
    variance; :func:`opo` takes the length in its place.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        weights: one number a rollout, ``[N]``, finite and not negative; the unit does not matter.
            A NaN reward that spreads (``nan="propagate"``) does so whatever its weight.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no mean and get 0.
        convention: only ``singleton`` and ``nan`` matter here.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. Weighted by ``weights`` it sums to 0 over a group of
        several; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); negative or non-finite
            weights; a group of several whose weights are all 0.
        TypeError: wrong dtype or rank.

    Source: the classical optimal baseline of REINFORCE (Weaver and Tao 2001; Greensmith et al. 2004), as OPO, arXiv
    2505.23585, starts from; textbook formula, our derivation.

    >>> optimal_baseline([1.0, 0.0, 1.0], [0, 0, 0], [4.0, 1.0, 2.0]).round(4).tolist()
    [0.1429, -0.8571, 0.1429]
    """
    rules = resolve("optimal_baseline", "optimal_baseline", convention, override)
    return _against("optimal_baseline", "weights", rewards, groups, weights, valid, rules)


def opo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    lengths: ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Rewards against the length-weighted mean: ``A_i = r_i - sum_j L_j r_j / sum_j L_j`` over the group of ``i``.

    :func:`optimal_baseline` with lengths as weights: under the paper's assumption that the gradients of different
    tokens are about orthogonal and of one size, the squared norm of a response's gradient grows with its length.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        lengths: trained tokens of each rollout, ``[N]``.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no mean and get 0.
        convention: only ``singleton`` and ``nan`` matter here. A group of one gets 0 by default, its own reward in
            verl.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths of arrays; NaN or infinite rewards (unless ``nan=`` says otherwise); negative or
            non-finite lengths; a group of several whose lengths are all 0 (verl returns NaN there).
        TypeError: wrong dtype or rank.

    Source: Hao et al. 2025, On-Policy RL with Optimal Reward Baseline, arXiv 2505.23585; known
    from verl's ``opo``, which was executed.

    >>> opo([1.0, 0.0, 1.0], [0, 0, 0], [10, 30, 20]).tolist()
    [0.5, -0.5, 0.5]
    """
    rules = resolve("opo", "opo", convention, override)
    return _against("opo", "lengths", rewards, groups, lengths, valid, rules)


def _against(
    who: str,
    name: str,
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    weights: ArrayLike,
    valid: ArrayLike | None,
    rules: Convention,
) -> Array:
    r = read(who, rewards, groups, valid, rules)
    w, _ = column(who, name, weights, r.mask, must="finite and not negative")
    # A lone rollout is its own mean, and a missing reward that may spread has a say, whatever their weight.
    n = segment_count(r.groups, valid=r.seen)
    w[r.mask & ((gather(n, r.groups) == 1) | np.isnan(r.x))] = 1.0
    most = segment_max(w, r.groups)
    if len(empty := np.flatnonzero((most == 0) & (n > 0))):
        msg = f"{who}(): {name!r} must not all be 0 in a group, but are in that of row {r.groups.first[empty[0]]}"
        raise ValueError(msg)
    # Powers of 2 change no bit of the mean, and keep sums of the largest and smallest floats in range.
    w = np.ldexp(w, -gather(np.frexp(most)[1], r.groups))
    return r.wrap(r.normalize(center=WeightedMean(w), scale="none"))
