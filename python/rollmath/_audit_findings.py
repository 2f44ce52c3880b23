"""What an engineer should look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._audit_inputs import Batch
from rollmath.groups import Groups
from rollmath.ops import gather

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Finding(NamedTuple):
    """Something that should not be, or that one should know.

    Attributes:
        kind: its name.
        count: rollouts concerned.
        text: what it is, in words.
        rows: all of these rollouts, or none where the whole batch is concerned.
    """

    kind: str
    count: int
    text: str
    rows: tuple[int, ...]


def findings(batch: Batch, tolerance: float) -> tuple[Finding, ...]:
    """All that is found, most serious first."""
    found: list[Finding] = []

    def add(kind: str, rows: NDArray[np.bool_], text: Callable[[int], str]) -> None:
        if n := int(rows.sum()):
            found.append(Finding(kind, n, text(n), tuple(np.flatnonzero(rows).tolist())))

    _about_values(batch, tolerance, add)
    _about_groups(batch, add)
    _about_ids(batch, found)
    return tuple(found)


Add = Callable[[str, "NDArray[np.bool_]", Callable[[int], str]], None]


def _about_values(batch: Batch, tolerance: float, add: Add) -> None:
    a, groups, stats = batch.advantages, batch.groups, batch.stats
    used, finite = batch.trains, np.isfinite(a)
    equal = gather((stats.n > 1) & ~batch.spread, groups)
    lone = gather(stats.n == 1, groups)

    def largest(rows: NDArray[np.bool_]) -> str:
        return f"{np.abs(a[rows]).max():.3g}"

    bad = used & ~finite
    add("non-finite advantage", bad, lambda n: f"{_n(n)} NaN or infinite {_s(n, 'advantage')}")
    residue = used & batch.member & equal & batch.nonzero & finite
    text = "no spread, but {} not 0 (up to {}): rounding residue, divided by itself?"
    add("residue", residue, lambda n: text.format(_are(n), largest(residue)))
    alone = used & batch.member & lone & batch.nonzero & finite
    add("lone reward", alone, lambda n: f"group of one, but {_are(n)} not 0 (up to {largest(alone)})")
    missing = used & ~np.isfinite(batch.rewards) & batch.nonzero & finite
    add("advantage without reward", missing, lambda n: f"NaN or infinite reward, but {_are(n)} not 0")
    above = batch.rewards - gather(stats.mean, groups)
    with np.errstate(invalid="ignore"):
        against = used & batch.member & (np.sign(above) * a < -tolerance)
    add("sign", against, lambda n: f"{_n(n)} {_s(n, 'advantage')} with the sign against reward - group mean")
    add("varies", used & batch.varies, lambda n: f"{_n(n)} {_s(n, 'rollout')} whose token-level advantages differ")


def _about_groups(batch: Batch, add: Add) -> None:
    lost = batch.filtered & batch.member & gather(batch.spread, batch.groups)
    add("filtered with spread", lost, lambda n: f"{_n(n)} filtered {_s(n, 'rollout')} of groups with spread")
    sizes, times = np.unique(batch.groups.counts, return_counts=True)
    if len(sizes) > 1:
        common = int(sizes[np.argmax(times)])
        uneven = gather(batch.groups.counts != common, batch.groups)
        groups = int((batch.groups.counts != common).sum())
        text = f"{_n(groups)} of {_n(batch.groups.n_groups)} groups {_have(groups)} not {common} rollouts"
        add("uneven groups", uneven, lambda _: f"{text} (but {sizes[0]} to {sizes[-1]})")
    twice = _duplicates(batch)
    add("duplicate rewards", twice, lambda n: f"{_n(n)} rewards equal another of their group, where most differ: copies?")


def _duplicates(batch: Batch) -> NDArray[np.bool_]:
    """Rewards equal to another of their group, in batches where most are unique; not the smallest and the largest."""
    rows = np.flatnonzero(batch.member)
    distinct, code = np.unique(batch.rewards[rows], return_inverse=True)
    twice = np.zeros(len(batch.groups), dtype=bool)
    if 2 * len(distinct) > len(rows):
        same = Groups.product(batch.groups.take(rows), code.astype(np.int64))
        twice[rows] = gather(same.counts > 1, same) & (code > 0) & (code < len(distinct) - 1)
    return twice


def _about_ids(batch: Batch, found: list[Finding]) -> None:
    """Ids that are row // size: made by position, perhaps after the rows were reordered."""
    groups = batch.groups
    size = int(groups.counts[0]) if groups.n_groups > 1 else 1
    if size > 1 and groups.ids == tuple(range(groups.n_groups)):
        if np.array_equal(np.arange(len(groups)) // size, groups.index):
            rest = len(groups) % size
            last = f"; the last group has {rest}" if rest else ""
            text = f"ids are row // {size}, as if made by position: right only in the order of generation{last}"
            found.append(Finding("positional ids", len(groups), text, ()))


def _n(n: int) -> str:
    return f"{n:,}"


def _s(n: int, noun: str) -> str:
    return noun if n == 1 else f"{noun}s"


def _are(n: int) -> str:
    return f"{_n(n)} {_s(n, 'advantage')} {'is' if n == 1 else 'are'}"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"
