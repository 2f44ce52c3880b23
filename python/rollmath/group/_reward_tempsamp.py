"""TempSamp-R1: rewards bent around a threshold, and the advantage of a demonstration."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import column, mask, real, required_mask
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
    middle, flat = real(who, "tau", tau), real(who, "alpha1", alpha1, low=0.0)
    steep = real(who, "alpha2", alpha2, above=0.0)
    r, back = column(who, "rewards", rewards)
    above = middle + flat * np.log1p(np.maximum(r - middle, 0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        below = middle - np.expm1(steep * np.maximum(middle - r, 0.0)) / np.expm1(steep)
    out = np.where(r >= middle, above, below)
    if not np.isfinite(out).all():
        msg = f"{who}(): 'alpha2' = {alpha2!r} takes the reward {r[~np.isfinite(out)][0]} past float64"
        raise ValueError(msg)
    return back(out)


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
    scale = real(who, "factor", factor)
    made = as_groups(who, groups)
    off = required_mask(who, "off_policy", off_policy, len(made))
    seen = mask(who, "valid", valid, len(made))
    own, back = column(who, "advantages", advantages, seen & ~off)
    best = np.nan_to_num(segment_max(own, made, valid=seen & ~off))[made.index]
    return back(np.where(seen, np.where(off, scale * best, own), 0.0))
