"""Soft value baselines: A*-PO and OPMD."""

from __future__ import annotations

import math
from typing import Literal, Unpack

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import finite, mask, rows
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops import LogMeanExp, Quantile, normalize, segment_logmeanexp, segment_max, segment_mean

#: Temperatures below this one are 0: their inverse need not be finite, and the value is the maximum.
_COLD = 1e-300


def soft_value(
    rewards: ArrayLike, groups: Groups | ArrayLike, *, beta: float = 0.5, valid: ArrayLike | None = None
) -> Array:
    """Optimal value of KL-regularised RL, one a group: ``V = beta log mean_i exp(r_i / beta)``.

    A*-PO takes it offline from samples of the reference policy; the regression target of a later rollout of the same
    prompt is its reward minus this. Without overflow: the largest reward is taken out first.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``.
        beta: temperature, from 0 (the maximum, its limit) to infinity (the mean). The official code has its own
            meanings for the ends: ``beta1 = 0`` is the mean and a negative one makes every value 0.
        valid: rollouts that take part.

    Returns:
        ``[n_groups]``, in the order of ``groups.ids`` and the kind and float type of ``rewards``; exactly the common
        reward if all are equal, NaN for a group without valid rollouts.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards, a negative or NaN ``beta``.
        TypeError: wrong dtype or rank.

    Source: Brantley et al. 2025 (A*-PO), arXiv 2505.20686; official code executed, TRL's (A2PO) beside ours.

    >>> from rollmath import Groups, ops
    >>> reference, prompts = Groups(["p"] * 4 + ["q"] * 4), ["q", "p", "q"]
    >>> values = soft_value([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], reference)
    >>> values.round(4).tolist()
    [0.7169, 0.0]
    >>> baseline = values[[reference.ids.index(p) for p in prompts]]
    >>> ops.normalize([1.0, 1.0, 0.0], prompts, center=baseline, scale="none").round(4).tolist()
    [1.0, 0.2831, 0.0]
    """
    who = "soft_value"
    heat = _temperature(who, "beta", beta)
    made = as_groups(who, groups)
    r, back = rows(who, "rewards", rewards, len(made))
    seen = mask(who, "valid", valid, len(made))
    finite(who, "rewards", r, seen)
    if math.isinf(heat):
        return back(segment_mean(r, made, valid=seen))
    if heat < _COLD:
        return back(segment_max(r, made, valid=seen))
    return back(segment_logmeanexp(r, made, 1.0 / heat, valid=seen))


def a_star_po(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta: float = 0.5,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Optimal advantages: ``A_i = r_i - V``, ``V = beta log mean_j exp(r_j / beta)`` over the group of ``i``.

    For a value from samples of another policy (the method's own way), take :func:`soft_value`.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        beta: temperature, from 0 (``V`` is the group's maximum) to infinity (its mean); see :func:`soft_value`.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here: a group of one gets 0 by default.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal. The sum
        over a group is not 0 but at most 0, since ``V`` is at least the mean.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), a negative ``beta``.
        TypeError: wrong dtype or rank.

    Source: Brantley et al. 2025, arXiv 2505.20686; official code read. TRL calls the method A2PO.

    >>> a_star_po([1.0, 0.0, 0.0, 1.0], ["a", "a", "a", "a"]).round(4).tolist()
    [0.2831, -0.7169, -0.7169, 0.2831]
    """
    heat = _temperature("a_star_po", "beta", beta)
    return _centred("a_star_po", rewards, groups, heat, valid, resolve("a_star_po", "a_star_po", convention, override))


def opmd(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    baseline: Literal["mean", "logmeanexp"] = "mean",
    tau: float = 1.0,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Online policy mirror descent: ``A_i = r_i - b``, ``b`` the group's mean or ``tau log mean_j exp(r_j / tau)``.

    The loss that goes with it is ``-A log pi / (1 + tau)`` in Trinity-RFT; the division is the loss's business.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        baseline: ``"mean"``, or ``"logmeanexp"`` (Trinity-RFT's ``logavgexp``).
        tau: temperature of ``"logmeanexp"``, from 0 (the maximum) to infinity (the mean).
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here: a group of one gets 0 by default, its reward with
            ``singleton="raw"`` (Trinity-RFT).
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), a negative ``tau``.
        TypeError: wrong dtype or rank.

    Source: Trinity-RFT's OPMD, official code executed; the method goes back to Kimi k1.5, arXiv 2501.12599, secondary
    description, unverified.

    >>> opmd([1.0, 0.0, 0.0, 1.0], ["a", "a", "a", "a"], baseline="logmeanexp").round(4).tolist()
    [0.3799, -0.6201, -0.6201, 0.3799]
    """
    choice("opmd", "baseline", baseline, ("mean", "logmeanexp"))
    heat = _temperature("opmd", "tau", tau)
    rules = resolve("opmd", "opmd", convention, override)
    return _centred("opmd", rewards, groups, math.inf if baseline == "mean" else heat, valid, rules)


def _centred(
    who: str, rewards: ArrayLike, groups: Groups | ArrayLike, heat: float, valid: ArrayLike | None, rules: Convention
) -> Array:
    center: str | LogMeanExp | Quantile = (
        "mean" if math.isinf(heat) else Quantile(1.0) if heat < _COLD else LogMeanExp(1.0 / heat)
    )
    return normalize(
        rewards, groups, center=center, scale="none", valid=valid, convention=rules, name="rewards", who=who
    )


def _temperature(who: str, name: str, value: object) -> float:
    if isinstance(value, bool):
        msg = f"{who}(): {name!r} must be a number, got {value}"
        raise TypeError(msg)
    heat = number(who, name, value)
    if not heat >= 0:
        msg = f"{who}(): {name!r} must be at least 0 (the maximum; inf is the mean), got {value}"
        raise ValueError(msg)
    return heat
