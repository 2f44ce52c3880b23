"""RLOO: rewards against the mean of the other rollouts of their group."""

from __future__ import annotations

from typing import Unpack

from rollmath._arrays import Array, ArrayLike
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups
from rollmath.ops import normalize


def rloo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """REINFORCE leave-one-out: ``A_i = r_i - mean_{j != i}(r_j) = n / (n - 1) (r_i - mean(r))`` over the group.

    The baseline does not depend on the rollout that it is subtracted from, so the gradient estimate is unbiased.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: only ``singleton`` and ``nan`` matter here: a group of one has no others and gets 0 by default, its
            own reward with ``singleton="raw"`` (verl's ``rloo``; its ``rloo_vectorized`` gives 0).
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; exactly 0 where all rewards of a group are equal.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise), rewards that require grad.
        TypeError: wrong dtype or rank.

    Source: Ahmadian et al. 2024, arXiv 2402.14740 (paper text), after Kool et al. 2019 (not read). verl's and TRL's
    code was executed.

    >>> rloo([1.0, 0.0, 0.0, 1.0], [3, 3, 3, 3]).round(4).tolist()
    [0.6667, -0.6667, -0.6667, 0.6667]
    """
    rules = resolve("rloo", "rloo", convention, override)
    return normalize(
        rewards, groups, center="loo", scale="none", valid=valid, convention=rules, name="rewards", who="rloo"
    )
