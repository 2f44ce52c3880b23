"""The first rollouts of each group by a number, or by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import real, whole
from rollmath.groups import Groups
from rollmath.select._candidates import Candidates, Nan, Per, Short, read, short_groups
from rollmath.select._members import members
from rollmath.select._selection import Selection, Statistics, Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray


def top(
    values: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    keep: int,
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """The largest: keeps ``i`` if ``#{j in group(i): v_j > v_i} < keep``; of equal values the first in preference.

    GFPO by token efficiency: ``values`` are ``reward / length``. Of prompts: ``groups`` and ``uid`` are their ids, one
    row each, and ``per="batch"``; the report then counts prompts.

    Args:
        values: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: rollouts of each group (or of the batch) to keep, at least 1.
        per: ``"group"``, or ``"batch"``: of all rollouts together.
        short: groups with fewer than ``keep`` rollouts that take part (for ``"batch"``, a batch with fewer): ``"keep"``
            all of them, ``"drop"`` them, or ``"raise"``.
        ties: one number a rollout; among equal values, the lowest are kept first: the length, say.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter.
        seed: keeps one of equal values at random, by a hash of uid and seed, where ``ties`` leaves a choice; without it
            the lowest uid, or the first row.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing value, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts that are not among the largest, groups with fewer than ``keep``
        under ``short="drop"``, rollouts with a missing value and those that were not valid. ``report.statistics`` is
        ``"after"`` per group (GFPO: the mean and spread are those of the rollouts kept), None per batch.

    Raises:
        ValueError: ``keep`` below 1, wrong lengths, values that are infinite, or NaN unless omitted, an uid twice, a
            group with fewer than ``keep`` under ``short="raise"``.
        TypeError: wrong dtype or rank.

    What others do: TRL's ``GFPOTrainer`` (huggingface/trl at 9ad1e89, read) keeps the ``torch.topk`` of scores that a
    function of yours gives, which says nothing of equal ones; mean and spread are those of the rollouts kept. It shows
    that function the completions ``i`` to ``i + G - 1`` of the batch as those of group ``i``, not those from ``i G``.

    Source: GFPO, arXiv 2508.09726: which numbers it ranks by from its abstract; that statistics are of those kept from
    secondary descriptions and TRL's code. How it breaks ties is unverified.

    >>> top([1.0, 0.0, 1.0, 1.0], ["a"] * 4, keep=2, ties=[900, 100, 300, 500]).indices.tolist()
    [2, 3]
    """
    who = "top"
    r = read(who, values, groups, name="values", nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    return _first(r, -r.x, keep, per, short, "not among the largest", _after(per))


def bottom(
    values: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    keep: int,
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """The smallest: keeps ``i`` if ``#{j in group(i): v_j < v_i} < keep``; of equal values the first in preference.

    GFPO by response length: ``values`` are lengths. Of prompts as :func:`top`.

    Args:
        values: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: rollouts of each group (or of the batch) to keep, at least 1.
        per: ``"group"``, or ``"batch"``: of all rollouts together.
        short: groups with fewer than ``keep``, as in :func:`top`.
        ties: one number a rollout; among equal values, the lowest are kept first.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter.
        seed: keeps one of equal values at random, by a hash of uid and seed, where ``ties`` leaves a choice.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing value, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts that are not among the smallest, and the rest as that of
        :func:`top`, with the same statistics: ``"after"`` per group, None per batch.

    Raises:
        ValueError: as :func:`top`.
        TypeError: wrong dtype or rank.

    Source: GFPO, arXiv 2508.09726, as :func:`top`.

    >>> lengths = [812, 240, 1024, 377]
    >>> chosen = bottom(lengths, ["a"] * 4, keep=2)
    >>> chosen.indices.tolist(), chosen.report.statistics
    ([1, 3], 'after')
    """
    who = "bottom"
    r = read(who, values, groups, name="values", nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    return _first(r, r.x, keep, per, short, "not among the smallest", _after(per))


def nearest(
    values: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    keep: int,
    target: float,
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Those nearest to a target: the ``keep`` smallest ``|v_i - target|``; of equal distances the first in preference.

    Prompt Curriculum Learning: ``values`` are the success rates of prompts that a model predicts, ``target=0.5``;
    ``groups`` and ``uid`` are the ids of the prompts, one row each, and ``per="batch"``; the report then counts
    prompts.

    Args:
        values: one number a rollout (or a prompt), ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: how many of each group (or of the batch) to keep, at least 1.
        target: a finite number.
        per: ``"group"``, or ``"batch"``: of all together.
        short: groups with fewer than ``keep``, as in :func:`top`.
        ties: one number a rollout; among equal distances, the lowest are kept first.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter.
        seed: keeps one of equal distances at random, by a hash of uid and seed, where ``ties`` leaves a choice.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing value, which takes no part and is dropped.
        valid: those that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts that are not among the nearest, and the rest as that of
        :func:`top`; it says nothing of statistics.

    Edge cases: distances are compared without rounding, as those of the numbers given: 0.3 as a double is a little
    farther from 0.5 than 0.7 is. Where 3 and 7 of 10 should be as far from the middle, pass the counts, ``target=5``.

    Raises:
        ValueError: as :func:`top`; a ``target`` that is not finite.
        TypeError: wrong dtype or rank; a ``target`` that is not a number.

    Source: PCL, arXiv 2510.01135 (abstract and secondary descriptions): of ``k m`` candidates the ``m`` whose predicted
    success is nearest to 0.5. How it breaks ties is unverified.

    >>> predicted, prompts = [0.1, 0.45, 0.9, 0.52, 0.7], ["p0", "p1", "p2", "p3", "p4"]
    >>> chosen = nearest(predicted, prompts, keep=2, target=0.5, per="batch", uid=prompts)
    >>> chosen.indices.tolist()
    [1, 3]
    >>> print(chosen.report)
    nearest kept 2 of 5 prompts
      not among the nearest  3 prompts: 'p0', 'p2', 'p4'
    """
    who = "nearest"
    aim = real(who, "target", target)
    r = read(who, values, groups, name="values", nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    return _first(r, _distance(r.x, aim), keep, per, short, "not among the nearest", None)


def random(
    groups: Groups | ArrayLike,
    *,
    keep: int,
    seed: int,
    per: Per = "group",
    short: Short = "keep",
    uid: Groups | ArrayLike | None = None,
    valid: ArrayLike | None = None,
) -> Selection:
    """At random without replacement: ``P(i kept) = min(1, keep / n)`` in a group of ``n``, by a hash of uid and seed.

    Args:
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: rollouts of each group (or of the batch) to keep, at least 1.
        seed: whole number of at least 0; another in every draw.
        per: ``"group"``, or ``"batch"``: of all rollouts together.
        short: groups with fewer than ``keep``, as in :func:`top`.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter. Without it the
            numbers of the rows are the ids.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`, of the kind of ``groups`` if these are a tensor; its report tells rollouts that were not
        drawn, groups with fewer than ``keep`` under ``short="drop"`` and rollouts that were not valid. Statistics are
        ``"after"`` per group, None per batch. With the same seed, a larger ``keep`` keeps the same rollouts and more.

    Raises:
        ValueError: ``keep`` below 1, a negative seed, wrong lengths, an uid twice, a group with fewer than ``keep``
            under ``short="raise"``.
        TypeError: a ``keep`` or a ``seed`` that is no whole number; wrong dtype or rank.

    Source: our definition of the random rule that PODS, arXiv 2504.13818, compares with.

    >>> random([0, 0, 0, 0, 1, 1], keep=2, seed=3).indices.tolist()
    [2, 3, 4, 5]
    """
    who = "random"
    whole(who, "seed", seed, least=0)
    r = members(who, groups, valid=valid, uid=uid, seed=seed)
    return _first(r, r.x, keep, per, short, "not drawn", _after(per))


def _first(
    r: Candidates,
    key: NDArray[np.float64],
    keep: int,
    per: Per,
    short: Short,
    why: str,
    statistics: Statistics | None,
) -> Selection:
    """The ``keep`` first by ``key``, then by preference; the others are dropped for the reason ``why``."""
    most = whole(r.who, "keep", keep)
    choice(r.who, "per", per, ("group", "batch"))
    few = short_groups(r, most, short, per=per)
    over = r.places(key, per=per) >= most
    # With one row an id, these are prompts.
    unit: Unit = "prompt" if per == "batch" and r.groups.n_groups == len(r.groups) > 0 else "rollout"
    return r.select([(why, over)], [("fewer than keep", few)], statistics=statistics, unit=unit)


def _after(per: Per) -> Statistics | None:
    return "after" if per == "group" else None


def _distance(x: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    """Numbers in the order of ``|x - target|``, equal where that is: the distance, or where it is rounded, its rank."""
    high, low = _difference(x, target)
    # Past float64: farther than all others, and exact in quarters, since both are large.
    over = np.isinf(high)
    if over.any():
        high[over], low[over] = _difference(x[over] / 4, target / 4)
    elif not low.any() or not _equal_by_rounding(high, low):
        return high
    order = np.lexsort((low, high, over))
    new = np.zeros(len(x), bool)
    for part in (over[order], high[order], low[order]):
        new[1:] |= part[1:] != part[:-1]
    rank = np.empty(len(x))
    rank[order] = np.cumsum(new)
    return rank


def _equal_by_rounding(high: NDArray[np.float64], low: NDArray[np.float64]) -> bool:
    """Whether numbers ``high + low`` that differ have the same ``high``."""
    order = np.argsort(high)
    high, low = high[order], low[order]
    return bool(((high[1:] == high[:-1]) & (low[1:] != low[:-1])).any())


def _difference(x: NDArray[np.float64], target: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``|x - target|`` as the nearest double, and what is to be added to it."""
    with np.errstate(over="ignore", invalid="ignore"):
        far = x - target
        # What rounding has taken from the difference (Knuth).
        back = far - x
        lost = (x - (far - back)) - (target + back)
    return np.abs(far), np.where(far < 0, -lost, lost)
