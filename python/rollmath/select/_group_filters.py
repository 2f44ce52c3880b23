"""Filters of whole groups: those whose rewards can teach nothing, or that are too hard or too easy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rollmath import ops
from rollmath._arrays import ArrayLike, number
from rollmath._checks import flag, real
from rollmath.groups import Groups
from rollmath.select._candidates import Candidates, Nan, read
from rollmath.select._selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nonzero_spread(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    tol: float = 0.0,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Groups whose rewards are not all equal: keeps the rollouts of group ``g`` if ``max(r) - min(r) > tol``.

    The filter of DAPO's dynamic sampling: a group of equal rewards has advantages of 0, and spends tokens of the batch
    on nothing. Take the reward that decides on success, before a length penalty, which would make a spread of its own.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        tol: spreads up to this count as none. 0 is exact, with no rounding between.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no spread and are dropped.

    Returns:
        A :class:`Selection`; its report tells groups without spread, groups of one, rollouts with a missing reward and
        rollouts that were not valid.

    Edge cases: a group with one rollout that takes part has no spread and is dropped, as a group of one, whatever
    ``tol``.

    What others do: verl 0.9.1 (v1 trainer) drops groups whose ``np.std`` is exactly 0, a test that rounding passes
    (three rewards of 0.7 have a standard deviation of 1.1e-16), and keeps a group of one; slime (624b824) keeps a
    sample standard deviation above 1e-6, so that a group of one (NaN) is dropped. Both were read.

    Raises:
        ValueError: wrong lengths, rewards that are infinite, or NaN unless omitted, a ``tol`` that is negative.
        TypeError: wrong dtype or rank.

    Source: DAPO, arXiv 2503.14476, section 3.2.

    >>> chosen = nonzero_spread([1.0, 0.0, 1.0, 1.0, 0.5], ["a", "a", "b", "b", "c"])
    >>> chosen.indices.tolist(), chosen.mask.tolist()
    ([0, 1], [True, True, False, False, False])
    """
    who = "nonzero_spread"
    widest = real(who, "tol", tol, low=0.0)
    r = read(who, rewards, groups, nan=nan, valid=valid)
    high, low = (np.asarray(of(r.x, r.groups, valid=r.only)) for of in (ops.segment_max, ops.segment_min))
    # NaN, of a group without members, is not above anything; a spread past float64 is.
    with np.errstate(over="ignore"):
        flat, lone = ~(high - low > widest), r.counts == 1
    return r.select(groups=(("no spread", flat & ~lone), ("group of one", lone)))


def mean_band(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    low: float,
    high: float,
    inclusive: bool = False,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Groups that are neither too hard nor too easy: keeps the rollouts of group ``g`` if ``low < mean(r) < high``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        low: the mean is above this; ``-math.inf`` for no bound.
        high: the mean is below this; ``math.inf`` for no bound.
        inclusive: a mean on a bound is inside.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no mean and are dropped.

    Returns:
        A :class:`Selection`; its report tells groups below and above the band, rollouts with a missing reward and
        rollouts that were not valid.

    Edge cases: the mean of equal rewards is exactly their value. A group of one has a mean and is judged by it; a band
    says nothing about the spread, so a group of equal rewards inside it is kept.

    What others do: OpenRLHF (``dynamic_filtering_range``, default 0 to 1) has the strict form, with the mean of
    Python's ``sum``, which for equal rewards can be off by its last digit, on the other side of a bound. It was read.

    Raises:
        ValueError: wrong lengths, rewards that are infinite, or NaN unless omitted, bounds that leave nothing between.
        TypeError: wrong dtype or rank.

    Source: OpenRLHF 0.11; online filtering by pass rate: arXiv 2504.03380 (not read).

    >>> mean_band([1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], low=0.0, high=1.0).indices.tolist()
    [0, 1]
    """
    who = "mean_band"
    closed = flag(who, "inclusive", inclusive)
    bounds = [number(who, name, value) for name, value in (("low", low), ("high", high))]
    if any(map(math.isnan, bounds)) or not (bounds[0] <= bounds[1] if closed else bounds[0] < bounds[1]):
        msg = f"{who}(): 'low' must be {'at most' if closed else 'below'} 'high', got low={low!r} and high={high!r}"
        raise ValueError(msg)
    r = read(who, rewards, groups, nan=nan, valid=valid)
    mean = _means(r)
    below = mean < bounds[0] if closed else mean <= bounds[0]
    above = mean > bounds[1] if closed else mean >= bounds[1]
    return r.select(groups=(("mean too low", below), ("mean too high", above)))


def pivot(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    below: float,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Pivots: keeps the rollouts of group ``g`` if ``max(r) > min(r)`` and ``mean(r) < below``.

    A group is a state: some turn of a demonstration, from which the policy was run a few times. It is worth training on
    where the policy sometimes succeeds and mostly fails. Take the reward that decides on success, before a length
    penalty, which would make a spread of its own.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes. A state each.
        below: the mean is below this; ``math.inf`` for no bound.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and are dropped.

    Returns:
        A :class:`Selection`; its report tells groups without spread, groups of one, groups whose mean is not below the
        bound, rollouts with a missing reward and rollouts that were not valid.

    Edge cases: a positive variance is ``max(r) > min(r)``, with no rounding between. A group of one has none, and is
    dropped as such. A mean of exactly ``below`` is not below.

    Raises:
        ValueError: wrong lengths, rewards that are infinite, or NaN unless omitted, a ``below`` that is NaN.
        TypeError: wrong dtype or rank.

    Source: PivotRL, arXiv 2603.21383 (secondary descriptions: positive variance and a mean below a threshold; its value
    is unverified, and has no default here).

    >>> chosen = pivot([1.0, 0, 0, 1, 1, 0, 0, 0], list("aaabbbcc"), below=0.5)
    >>> print(chosen.report)
    pivot kept 3 of 8 rollouts in 1 of 3 groups
      no spread      1 group, 2 rollouts: 'c' (2)
      mean too high  1 group, 3 rollouts: 'b' (3)
    """
    who = "pivot"
    bound = number(who, "below", below)
    if math.isnan(bound):
        msg = f"{who}(): 'below' must be a number, got nan"
        raise ValueError(msg)
    r = read(who, rewards, groups, nan=nan, valid=valid)
    high, low = (np.asarray(of(r.x, r.groups, valid=r.only)) for of in (ops.segment_max, ops.segment_min))
    lone = r.counts == 1
    flat = ~(high > low) & ~lone
    return r.select(groups=(("no spread", flat), ("group of one", lone), ("mean too high", ~(_means(r) < bound))))


def _means(r: Candidates) -> NDArray[np.float64]:
    """Means of groups, finite also where their sums are not."""
    scale = 2.0**-64 if (np.abs(r.x) > 1e280).any() else 1.0
    return np.asarray(ops.segment_mean(r.x * scale, r.groups, valid=r.only)) / scale
