"""GRPO: rewards standardised within their group."""

from __future__ import annotations

from typing import Literal, Unpack

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups
from rollmath.ops import normalize


def grpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    valid: ArrayLike | None = None,
    scale: Literal["std", "none"] = "std",
    leave_one_out: bool = False,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    r"""Group-relative advantages: ``A_i = (r_i - mean(r)) / (std(r) + eps)`` over the group of ``i``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        scale: ``"std"``, or ``"none"`` for the centred rewards alone.
        leave_one_out: mean and standard deviation are those of the *other* rollouts of the group, as NeMo-RL has it by
            default; use it with ``conventions.NEMO_RL``.
        convention: ddof, eps and what degenerate groups get. Default: sample standard deviation, eps 1e-6, exactly 0
            for a group of one and for a group without spread, an error for NaN or infinity. ``conventions.VERL`` and
            others give that framework's formula; keywords such as ``eps=1e-4`` override single fields.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``. The sum over a group is 0 up to rounding (but not with
        ``leave_one_out`` and a scale, nor for a group of one with ``singleton="raw"``).

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), rewards that require grad.
        TypeError: wrong dtype or rank.

    Source: DeepSeekMath, arXiv 2402.03300, section 4.1.2 (outcome supervision). The paper writes no eps and no ddof;
    frameworks use ddof 1 or 0 and eps from 1e-9 to 1e-4.

    >>> grpo([1.0, 0.0, 0.0, 1.0, 0.5], ["a", "a", "a", "a", "b"]).round(4).tolist()
    [0.866, -0.866, -0.866, 0.866, 0.0]
    """
    choice("grpo", "scale", scale, ("std", "none"))
    rules = resolve("grpo", "grpo", convention, override)
    others = flag("grpo", "leave_one_out", leave_one_out)
    center = "loo" if others else "mean"
    divisor = "none" if scale == "none" else "loo_std" if others else "std"
    return normalize(
        rewards, groups, center=center, scale=divisor, valid=valid, convention=rules, name="rewards", who="grpo"
    )
