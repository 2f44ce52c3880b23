"""Statistics of each group, for logging."""

from __future__ import annotations

from rollmath._arrays import ArrayLike
from rollmath.groups import Groups, GroupStats, as_groups


def stats(
    rewards: ArrayLike, groups: Groups | ArrayLike, *, valid: ArrayLike | None = None, ddof: int = 1
) -> GroupStats:
    """``n``, ``mean``, ``std``, ``min`` and ``max`` of each group, as float64 NumPy arrays.

    The formulas are ``mean = sum(r) / n`` and ``std = sqrt(sum((r - mean)^2) / (n - ddof))``; groups come in the order
    of ``groups.ids``. NaN where a group has too few valid rollouts; a NaN reward spreads over its group.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout.
        valid: rollouts that take part.
        ddof: 1 for the sample, 0 for the population standard deviation.

    >>> s = stats([1.0, 0.0, 1.0], ["a", "a", "b"], ddof=0)
    >>> s.n.tolist(), s.mean.tolist(), s.std.tolist()
    ([2, 1], [0.5, 1.0], [0.5, 0.0])
    """
    return as_groups("stats", groups)._stats("stats", "rewards", rewards, valid, ddof)
