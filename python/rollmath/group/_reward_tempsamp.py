"""TempSamp-R1: rewards bent around a threshold, and the advantage of a demonstration."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike, mask_bytes
from rollmath.group._reward_args import column, option
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_max


def tempsamp_reward(rewards: ArrayLike, *, tau: float = 0.8, alpha1: float = 0.01, alpha2: float = 1.0) -> Array:
    """Soft rewards: ``tau + alpha1 log(r - tau + 1)`` from ``tau`` on, flat, and steep below.

    Below it is ``tau - (exp(alpha2 (tau - r)) - 1) / (exp(alpha2) - 1)``. Both parts are ``tau`` at ``tau``: good
    rollouts are told apart little, bad ones much.

    Args:
        rewards: one number a rollout, ``[N]``, in [0, 1] where they come from the paper (an overlap in time); any
            finite number is accepted.
        tau: the threshold.
        alpha1: scale of the logarithm, at least 0.
        alpha2: steepness of the exponential, greater than 0.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``.

    Raises:
        ValueError: NaN or infinite rewards; options out of range; a result past float64.
        TypeError: wrong dtype or rank.

    Source: TempSamp-R1, arXiv 2509.18056; formula and defaults from secondary descriptions, unverified.

    >>> tempsamp_reward([1.0, 0.8, 0.5, 0.0]).round(4).tolist()
    [0.8018, 0.8, 0.5964, 0.0868]
    """
    who = "tempsamp_reward"
    middle, flat = option(who, "tau", tau), option(who, "alpha1", alpha1, least=0)
    steep = option(who, "alpha2", alpha2, above=0)
    r = column(who, "rewards", rewards)
    above = middle + flat * np.log1p(np.maximum(r.values - middle, 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        below = middle - np.expm1(steep * np.maximum(middle - r.values, 0.0)) / np.expm1(steep)
    out = np.where(r.values >= middle, above, below)
    if not np.isfinite(out).all():
        msg = f"{who}(): 'alpha2' = {alpha2!r} takes the reward {r.values[~np.isfinite(out)][0]} past float64"
        raise ValueError(msg)
    return r.result(out)


def tempsamp_anchor(
    advantages: ArrayLike,
    groups: Groups | ArrayLike,
    off_policy: ArrayLike,
    *,
    factor: float = 1.2,
    valid: ArrayLike | None = None,
) -> Array:
    """Advantages in which an off-policy rollout gets ``factor max(A)`` over the others of its group.

    A demonstration has the best reward of its group, so that with it in the statistics every sampled rollout looks
    bad. Take the advantages of the sampled rollouts alone (``valid=~off_policy``), then anchor the demonstration here.

    Args:
        advantages: one number a rollout, ``[N]``; those of off-policy rollouts are not read.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        off_policy: the demonstrations (bool or int, nonzero = True).
        factor: how far above the best sampled rollout.
        valid: rollouts that take part (bool or int, nonzero = True); the others are not the maximum and get 0.

    Returns:
        ``[N]``, in the kind and float type of ``advantages``; sampled rollouts keep theirs.

    Edge cases:
        A group without a valid sampled rollout gives its demonstrations 0, as does one whose advantages are all 0. A
        negative maximum (advantages that are not centred) is made more negative.

    Raises:
        ValueError: wrong lengths; NaN or infinite advantages of valid sampled rollouts.
        TypeError: wrong dtype or rank.

    Source: TempSamp-R1, arXiv 2509.18056; secondary descriptions, unverified.

    >>> tempsamp_anchor([0.5, -0.5, 0.0], ["a", "a", "a"], [0, 0, 1]).tolist()
    [0.5, -0.5, 0.6]
    """
    who = "tempsamp_anchor"
    scale = option(who, "factor", factor)
    made = as_groups(who, groups)
    off = mask_bytes(who, "off_policy", off_policy, length=len(made))
    if off is None:
        msg = f"{who}(): 'off_policy' must be bool or integer, one a rollout, got None"
        raise TypeError(msg)
    mask = mask_bytes(who, "valid", valid, length=len(made))
    sampled = off == 0 if mask is None else (off == 0) & (mask != 0)
    own = column(who, "advantages", advantages, length=len(made), mask=sampled.view(np.uint8))
    best = np.nan_to_num(segment_max(own.values, made, valid=sampled))[made.index]
    return own.result(np.where(off != 0, scale * best, own.values), mask)
