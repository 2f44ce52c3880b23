"""QAE: a quantile of the group in place of its mean."""

from __future__ import annotations

from typing import Literal, Unpack

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups
from rollmath.ops import Quantile, normalize


def quantile_baseline(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    quantile: float = 0.4,
    scale: Literal["std", "none"] = "std",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Quantile advantages: ``A_i = (r_i - b) / (std(r) + eps)``, ``b = inf{x: F(x) >= K}``, F the group's distribution.

    ``b`` is a reward of the group, the ceil(K n)-th smallest; nothing is interpolated. For 0/1 rewards it is 0 if at
    most 1 - K of the group succeed, so that a hard prompt credits its successes alone, and else 1, so that an easy one
    punishes its failures alone; the rest gets exactly 0.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        quantile: ``K``, above 0 and at most 1. K n within 1e-12 (relative) above a whole number counts as that number,
            so that 0.07 of 100 is the 7th, though 0.07 * 100 is more than 7 in floats.
        scale: ``"std"``, or ``"none"`` for r - b.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: ddof, eps and what degenerate groups get.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal. Not
        centred.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards (unless ``nan=`` says otherwise); ``quantile`` out of range.
        TypeError: wrong dtype or rank.

    Source: Wu et al. 2025, Quantile Advantage Estimation, arXiv 2509.22611 (paper text). ``torch.quantile`` of a group
    interpolates by default, which is not this baseline.

    >>> quantile_baseline([0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5, scale="none").round(9).tolist()
    [-0.1, 0.0, 0.1, 0.2, 0.3]
    """
    choice("quantile_baseline", "scale", scale, ("std", "none"))
    q = real("quantile_baseline", "quantile", quantile, high=1.0, above=0.0)
    rules = resolve("quantile_baseline", "quantile_baseline", convention, override)
    return normalize(
        rewards,
        groups,
        center=Quantile(q * (1 - 1e-12), "inverted_cdf"),
        scale=scale,
        valid=valid,
        convention=rules,
        name="rewards",
        who="quantile_baseline",
    )
