"""Quotas: of each group so many rollouts of each stratum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice, describe, host, is_tensor
from rollmath._checks import whole
from rollmath.groups import Groups, as_groups
from rollmath.ops._hash import Uids
from rollmath.select._apportion import apportion
from rollmath.select._candidates import Per, Short, short_groups
from rollmath.select._members import members
from rollmath.select._selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How the rollouts to keep are divided among strata: by a rule, or as many (or which share) of each.
Split: TypeAlias = Literal["proportional", "equal"] | Mapping[Any, float]


def quota(
    groups: Groups | ArrayLike,
    strata: Groups | ArrayLike,
    *,
    keep: int,
    split: Split = "proportional",
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    valid: ArrayLike | None = None,
) -> Selection:
    """Of each group ``keep`` rollouts, so many of each stratum: ``k_s = keep w_s / sum_t w_t``, in whole rollouts.

    A stratum is a kind of rollout whose share must not be left to chance: correct and incorrect, the number of tool
    calls, the language. ``w`` is the size of the stratum in the group (``"proportional"``: the kept are in proportion
    to what there was), or 1 (``"equal"``: as even as the sizes allow), or what a mapping says.

    A stratum with no more rollouts than its share gives them all, and the others divide the rest in the same way, so
    that ``min(keep, n)`` rollouts of a group of ``n`` are kept in any case. Fractions go by largest remainders; of
    equal ones to the larger stratum, then to the lower id. All of this is whole numbers: nothing is rounded.

    Args:
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        strata: one id a rollout, ``[N]``, or a :class:`~rollmath.Groups`; bools are ids too: ``strata=rewards > 0``.
            Equal ids of different groups are different strata. Numbers that vary finely make strata of one: bin them.
        keep: how many rollouts of each group, at least 1.
        split: ``"proportional"``, ``"equal"``, or a mapping of strata to how many rollouts of each (ints) or which
            share of ``keep`` (floats, as they are written: 0.1 is a tenth; what rounding leaves of 1, or adds to it, is
            nothing). Strata that it does not name divide what it leaves in proportion to their sizes. A stratum of 0
            gets only what no other can fill; to leave it out, use ``valid``.
        per: ``"group"``, or ``"batch"``: ``keep`` rollouts of the whole batch, quotas over the batch.
        short: groups with fewer than ``keep`` rollouts: ``"keep"`` all of them, ``"drop"`` them, or ``"raise"``.
        ties: one number a rollout; inside a stratum the lowest are kept first: lengths, or ``-rewards``.
        uid: one id a rollout, all different; then neither the order of the rows nor shards matter.
        seed: keeps rollouts of a stratum at random, by a hash of uid and seed, where ``ties`` leaves a choice. Without
            it the lowest uids (or first rows) are kept.
        valid: rollouts that take part (bool or int, nonzero = True); the others count nowhere and are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts over the quota of their stratum, groups with fewer than ``keep``
        and rollouts that were not valid. It does not say whether statistics are of all rollouts or of the kept: an
        uneven split changes the mean of a group.

    Raises:
        ValueError: ``keep`` below 1; a mapping that is empty, of negative numbers, or of more than there is to keep;
            wrong lengths; a short group under ``short="raise"``.
        TypeError: ids of several types; keys of ``split`` that are not of the type of ``strata``, or ints and floats
            mixed.

    Source: our definition; no trainer that we know has quotas of strata. Stratified sampling and the method of largest
    remainders (Hamilton) are textbook.

    >>> tools = ["none"] * 5 + ["search"] * 2 + ["python"]
    >>> quota([0] * 8, tools, keep=4).indices.tolist()
    [0, 1, 2, 5]
    >>> quota([0] * 8, tools, keep=4, split="equal").indices.tolist()
    [0, 1, 5, 7]
    >>> chosen = quota([0] * 8, tools, keep=4, split={"search": 3})
    >>> chosen.indices.tolist()
    [0, 1, 5, 6]
    >>> print(chosen.report)
    quota kept 4 of 8 rollouts in 1 of 1 group
      over the quota of its stratum  1 group, 4 rollouts: 0 (4)
    """
    who = "quota"
    most = whole(who, "keep", keep)
    choice(who, "per", per, ("group", "batch"))
    r = members(who, groups, strata, valid=valid, ties=ties, uid=uid, seed=seed)
    named = as_groups(who, _ids(who, strata), length=len(r.groups), why="len(groups)", name="strata")
    few = short_groups(r, most, short, per=per)
    whole_batch = per == "batch"
    cells = replace(r, groups=named if whole_batch else Groups.product(r.groups, named))
    first = cells.groups.first
    group = np.zeros_like(first) if whole_batch else r.groups.index[first]
    # Cells in the order of their groups, so that those of a group are neighbours.
    order = np.argsort(group, kind="stable")
    group, stratum, sizes = group[order], named.index[first][order], cells.counts[order]
    there = np.array([cells.seen.sum()]) if whole_batch else r.counts
    weights = _weights(who, split, most, named, group, stratum, sizes)
    rank = Uids.of(who, named.ids, named.n_groups, name="strata").rank[stratum]
    quotas = np.empty(len(order), np.int64)
    quotas[order] = apportion(np.minimum(there, min(most, len(named))), group, weights, sizes, rank)
    over = cells.places(cells.x) >= quotas[cells.groups.index]
    return r.select([("over the quota of its stratum", over)], [("fewer than keep", few)])


def _ids(who: str, strata: Any) -> Any:
    """Bools as 0 and 1, which are ids and equal to them."""
    if is_tensor(strata) or isinstance(strata, np.ndarray):
        array = host(who, "strata", strata)[0]
        return array.astype(np.int64) if array.dtype == bool else strata
    if isinstance(strata, (list, tuple)) and strata and all(isinstance(x, (bool, np.bool_)) for x in strata):
        return [int(x) for x in strata]
    return strata


def _weights(
    who: str,
    split: Any,
    keep: int,
    named: Groups,
    group: NDArray[np.int64],
    stratum: NDArray[np.int64],
    sizes: NDArray[np.int64],
) -> NDArray[Any]:
    """Whole numbers, one a cell, in whose proportion the rollouts of a group are divided."""
    if not isinstance(split, Mapping):
        if not isinstance(split, str) or split not in {"proportional", "equal"}:
            msg = f"{who}(): 'split' must be 'proportional', 'equal' or a mapping of strata to numbers, got {split!r}"
            raise ValueError(msg)
        return sizes if split == "proportional" else np.ones_like(sizes)
    given, left = _parts(who, split, keep, named)
    others = np.array([key not in given for key in named.ids], bool)[stratum]
    # Those that are not named divide what is left, so much for each of their rollouts.
    n = np.maximum(np.bincount(group, np.where(others, sizes, 0)).astype(np.int64), 1)[group]
    # Python's integers where products of weights and rollouts do not fit: slower, and exact.
    largest = int(np.bincount(group, sizes).max(initial=0))
    bound = max(left, *given.values()) * largest**2 * named.n_groups
    kind: Any = np.int64 if bound < 2**63 else object
    part = np.array([given.get(key, 0) for key in named.ids], kind)[stratum]
    return np.where(others, sizes.astype(kind) * left, part * n.astype(kind))


def _parts(who: str, split: Mapping[Any, Any], keep: int, named: Groups) -> tuple[dict[Any, int], int]:
    """Whole numbers in the proportion of what is asked of each stratum, and of what is left for those not named."""
    values = list(split.values())
    shares = any(isinstance(x, (float, np.floating)) for x in values)
    asked, top = {}, 1 if shares else keep
    for key, x in split.items():
        right = (float, np.floating) if shares else (int, np.integer)
        if not isinstance(x, right) or isinstance(x, bool):
            alone = "all ints (rollouts) or all floats (shares)"
            msg = f"{who}(): 'split' must map strata to numbers, {alone}, got {x!r} for {key!r}"
            raise TypeError(msg)
        if not 0 <= x <= top:
            most = "1, as a share" if shares else f"{keep} (= keep)"
            msg = f"{who}(): 'split' must be between 0 and {most}, got {x!r} for {key!r}"
            raise ValueError(msg)
        # A share as it is written: 0.1 is a tenth, and not the float next to it.
        asked[key] = Fraction(str(x)) if shares else Fraction(int(x))
    if not asked:
        msg = f"{who}(): 'split' must name at least one stratum, got an empty mapping"
        raise ValueError(msg)
    left = top - sum(asked.values(), Fraction(0))
    # Thirds and sixths as floats add up to 1 but for their last digits.
    if shares and abs(left) <= sum(float(np.finfo(type(x)).eps) for x in values):
        left = Fraction(0)
    if left < 0:
        total = float(top - left)
        msg = f"{who}(): 'split' must add up to at most {top}{' (= keep)' if not shares else ''}, got {total:g}"
        raise ValueError(msg)
    _same_type(who, split, named)
    common = lcm(*(x.denominator for x in asked.values()))
    return {key: int(x * common) for key, x in asked.items()}, int(left * common)


def _same_type(who: str, split: Mapping[Any, Any], named: Groups) -> None:
    """A key of another type can name nothing, and would be passed over in silence."""

    def kind(x: Any) -> type:
        if isinstance(x, (np.bool_, np.integer)):
            return int
        # NumPy's strings are strings, and so are enums of strings.
        return next((t for t in (int, str, bytes, tuple) if isinstance(x, t)), type(x))

    if named.n_groups:
        wanted = kind(named.ids[0])
        for key in split:
            if kind(key) is not wanted:
                msg = f"{who}(): 'split' must have keys of the type of 'strata', {wanted.__name__}, got {describe(key)}"
                raise TypeError(msg)
