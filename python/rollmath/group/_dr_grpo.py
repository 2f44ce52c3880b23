"""Dr. GRPO: rewards centred within their group, divided by nothing."""

from __future__ import annotations

from typing import Unpack

from rollmath._arrays import Array, ArrayLike
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups
from rollmath.ops import normalize


def dr_grpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """GRPO without its standard deviation: ``A_i = r_i - mean(r)`` over the group of ``i``.

    Dividing by the standard deviation gives prompts that are nearly solved or nearly hopeless more weight; this does
    not. The other half of the paper, a constant in place of the length of a response, belongs to the loss: see
    ``rollmath.loss``. ``rloo`` is this times n / (n - 1).

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here. A group of one gets 0 by default, its own reward in
            verl and SkyRL.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; sums to 0 over a group up to rounding, and is exactly 0
        where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), rewards that require grad.
        TypeError: wrong dtype or rank.

    Source: Liu et al. 2025, Understanding R1-Zero-Like Training, arXiv 2503.20783; known from the
    authors' code, which was read. verl's ``norm_adv_by_std_in_grpo=False`` and TRL's ``scale_rewards="none"`` were
    executed.

    >>> dr_grpo([1.0, 0.0, 0.0, 1.0, 0.5], ["a", "a", "a", "a", "b"]).tolist()
    [0.5, -0.5, -0.5, 0.5, 0.0]
    """
    rules = resolve("dr_grpo", "dr_grpo", convention, override)
    return normalize(
        rewards, groups, center="mean", scale="none", valid=valid, convention=rules, name="rewards", who="dr_grpo"
    )
