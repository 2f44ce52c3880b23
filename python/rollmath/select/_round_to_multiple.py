"""As many samples as divide evenly among data-parallel ranks."""

from __future__ import annotations

from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath._arrays import ArrayLike, choice, counted
from rollmath._checks import mask, rows, whole, whole_rows
from rollmath.groups import Groups
from rollmath.select._candidates import Candidates
from rollmath.select._members import members
from rollmath.select._residues import cheapest
from rollmath.select._selection import Selection
from rollmath.select._selection import selection as selected

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest multiple of samples that rollouts have in different numbers: time and memory grow with it.
_MOST = 1 << 16


def round_to_multiple(
    groups: Groups | ArrayLike,
    multiple: int,
    *,
    selection: Selection | ArrayLike | None = None,
    samples: ArrayLike | None = None,
    drop: Literal["last", "random", "largest_group"] = "last",
    short: Literal["raise", "drop"] = "raise",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    valid: ArrayLike | None = None,
) -> Selection:
    """Drops rollouts until the samples divide evenly: keeps ``floor(n / m) m`` of ``n`` samples, ``m`` the multiple.

    Data-parallel ranks take the same number of samples each. With one sample a rollout, ``n mod m`` rollouts go. Where
    rollouts are several samples (turns, rows of an agent), they go whole, and the most samples are kept that whole
    rollouts allow; to drop single rows, pass the groups of the rows.

    A group is emptied only if no choice leaves every group its most preferred rollout; then as few of these go as can
    be, those that are alone in their group after the others.

    Args:
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        multiple: such as the number of ranks, or ranks times micro-batch; at least 1, with ``samples`` at most 65536.
        selection: a :class:`Selection` of these rollouts, whose kept ones are rounded and whose reasons are carried on,
            or a mask; None for all.
        samples: how many samples each rollout is, whole numbers of at least 1; None for one each.
        drop: which go first. ``"last"``: the last by ``ties``, then uid, then row. ``"random"``: by a hash of uid and
            seed, after ``ties``; needs ``seed``. ``"largest_group"``: one after another from the group that has most
            left, the last of it by ``ties``, then hash if there is a seed, then uid, then row.
        short: if fewer than ``multiple`` samples are left, or whole rollouts make no multiple: ``"raise"``, or
            ``"drop"`` them all, with their reason in the report.
        ties: one number a rollout; the lowest are kept first, such as the length.
        uid: one id a rollout, all different; then neither the order of the rows nor shards matter.
        seed: for ``"random"`` and ``"largest_group"``.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts over the multiple, fewer samples than it, what the selection
        dropped for its own reasons and rollouts that were not valid. Statistics are what the selection says, None for a
        mask, and ``"before"`` without either: rollouts go for the ranks' sake, and not for what they say of a prompt.

    Edge cases, with ``samples``: of the choices that drop fewest of the most preferred, the one that keeps most samples
    is taken; of those the one that drops fewest rollouts; then larger rollouts go before smaller ones, and ``drop``
    decides among rollouts of a size. A rollout of a whole multiple of samples stays.

    Raises:
        ValueError: ``multiple`` out of range; nothing left under ``short="raise"``; ``drop="random"`` without ``seed``;
            wrong lengths; a selection of another number of rollouts.
        TypeError: wrong dtype or rank.

    Source: the adaptive down-sampling of EAPO in IterResearch, arXiv 2511.07327 (secondary description; which samples
    it drops is unverified: ``drop`` is the choice, and not to empty groups is ours).

    >>> chosen = round_to_multiple(list("aaaabbc"), 4, drop="largest_group")
    >>> chosen.indices.tolist()
    [0, 1, 4, 6]
    >>> print(chosen.report)
    round_to_multiple kept 4 of 7 rollouts in 3 of 3 groups; statistics before
      over the multiple of 4  2 groups, 3 rollouts: 'a' (2), 'b' (1)
    >>> round_to_multiple(list("aabbc"), 8, samples=[3, 4, 2, 5, 3]).indices.tolist()
    [0, 2, 4]
    """
    who = "round_to_multiple"
    m = whole(who, "multiple", multiple)
    if samples is not None and m > _MOST:
        msg = f"{who}(): 'multiple' must be at most {_MOST} with 'samples', got {m}"
        raise ValueError(msg)
    choice(who, "drop", drop, ("last", "random", "largest_group"))
    choice(who, "short", short, ("raise", "drop"))
    if drop == "random" and seed is None:
        msg = f"{who}(): 'seed' must be a whole number for drop='random', got None"
        raise ValueError(msg)
    chosen = selection.mask if isinstance(selection, Selection) else selection
    r = members(who, groups, samples, chosen, valid=valid, ties=ties, uid=uid, seed=seed)
    if drop == "last":
        r = replace(r, seed=None)
    before, said = _before(who, selection, r)
    r = replace(r, valid=~np.any(list(before.values()), axis=0))
    size = _sizes(who, samples, r.seen)
    over = _over(r, m, size, drop)
    n = int(size[r.seen].sum())
    reason = f"over the multiple of {m}"
    if size[r.seen & ~over].sum() == 0:
        if short == "raise":
            there = f"{counted(n, 'sample')} in {counted(int(r.seen.sum()), 'rollout')}"
            msg = f"{who}(): 'multiple' must leave whole rollouts to train on, got {m}, but there are {there}"
            raise ValueError(f"{msg}; short='drop' drops them all")
        reason = f"fewer than {m} samples" if n < m else f"no multiple of {m} in whole rollouts"
    dropped = before | {reason: over | before.get(reason, False)}
    return selected(who, r.groups, list(dropped.items()), r.kind, **said)


def _before(who: str, selection: Any, r: Candidates) -> tuple[dict[str, NDArray[np.bool_]], dict[str, Any]]:
    """What is not there to be rounded, for which reasons, and what else the selection says of itself."""
    dropped = {"not valid": ~r.valid}
    if selection is None:
        return dropped, {"statistics": "before"}
    if not isinstance(selection, Selection):
        return dropped | {"not selected": ~mask(who, "selection", selection, len(r.groups))}, {}
    report = selection.report
    if report.n_rollouts != len(r.groups):
        msg = f"{who}(): 'selection' must be of {len(r.groups)} rollouts (= len(groups)), got {report.n_rollouts}"
        raise ValueError(msg)
    for code, reason in enumerate(report.reasons, start=1):
        dropped[reason] = dropped.get(reason, False) | (report.codes == code)
    return dropped, {"statistics": report.statistics, "unit": report.unit}


def _sizes(who: str, samples: ArrayLike | None, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    if samples is None:
        return np.ones(len(seen), np.int64)
    given = rows(who, "samples", samples, len(seen))[0]
    size = whole_rows(who, "samples", np.where(seen, given, 1.0), len(seen), 1, "len(groups)")
    if size.sum() >= 2**53:
        msg = f"{who}(): 'samples' must add up to less than 2**53, got {size.sum():g}"
        raise ValueError(msg)
    return size.astype(np.int64)


def _over(r: Candidates, m: int, size: NDArray[np.int64], drop: str) -> NDArray[np.bool_]:
    """The rollouts that are dropped."""
    out = np.zeros(len(size), bool)
    at = np.flatnonzero(r.seen)
    size, total = size[at], int(size[at].sum())
    if total < m:
        return r.seen
    place = r.places(r.x)[at]
    # The first of its group in preference goes after all that are not, and one that is alone after these.
    tier = np.where(place > 0, 0, np.where(r.counts[r.groups.index[at]] > 1, 1, 2))
    # The highest turn goes first.
    turn = r.preference[at] + len(out) * (place if drop == "largest_group" else 0)
    largest = int(size.max(initial=1))
    if (size == largest).all():
        # As few as can be, and no need to sort the others.
        if n := len(at) % (m // gcd(largest, m)):
            out[at[np.argpartition(turn - tier * len(out) ** 2, -n)[-n:]]] = True
        return out
    kind = tier * (largest + 1) + largest - size
    at = at[order := np.lexsort((-turn, kind))]
    starts = np.flatnonzero(np.diff(kind[order], prepend=-1))
    counts, first = np.diff(starts, append=len(at)), order[starts]
    # In the order of these digits: rollouts that empty a group or might, samples, rollouts. At most m - 1 are dropped.
    digit = m * m * largest
    sizes = size[first].tolist()
    costs = [digit * (0, 1, m)[t] + m * s + 1 for t, s in zip(tier[first].tolist(), sizes, strict=True)]
    taken = cheapest(total % m, m, list(zip(counts.tolist(), sizes, costs, strict=True)))
    out[at[np.arange(len(at)) - np.repeat(starts, counts) < np.repeat(np.array(taken, np.int64), counts)]] = True
    return out
