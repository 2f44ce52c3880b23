"""What an engineer should look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._audit_inputs import Batch
from rollmath._audit_match import Match, rows_off
from rollmath.conventions import Framework
from rollmath.groups import Groups
from rollmath.ops import gather

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Finding(NamedTuple):
    """Something that should not be, or that one should know.

    Attributes:
        kind: its name.
        rollouts: how many are concerned.
        text: what it is, in words.
        rows: all of these rollouts, or none where the whole batch is concerned.
    """

    kind: str
    rollouts: int
    text: str
    rows: tuple[int, ...]


def findings(batch: Batch, tolerance: float, matched: tuple[Match, ...], asked: Framework) -> tuple[Finding, ...]:
    """All that is found, most serious first."""
    found: list[Finding] = []

    def add(kind: str, rows: NDArray[np.bool_], text: Callable[[int], str]) -> None:
        if n := int(rows.sum()):
            found.append(Finding(kind, n, text(n), tuple(np.flatnonzero(rows).tolist())))

    _about_values(batch, tolerance, add)
    if matched and matched[0].grouping == "ids" and 0 < 2 * matched[0].off < matched[0].compared:
        off = rows_off(batch, matched[0], asked, tolerance)
        text = f"{{}} from {matched[0].names[0]}, which the others follow"
        add("outlier", off, lambda n: text.format(f"{_n(n)} {_s(n, 'advantage')} {'differs' if n == 1 else 'differ'}"))
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
    text = "{} not 0 (largest {}) in groups without spread: rounding, or other groups"
    add("no spread", residue, lambda n: text.format(_are(n), largest(residue)))
    alone = used & batch.member & lone & batch.nonzero & finite
    add("lone reward", alone, lambda n: f"{_are(n)} not 0 (largest {largest(alone)}) in groups of one")
    missing = used & ~np.isfinite(batch.rewards) & batch.nonzero & finite
    add("advantage without reward", missing, lambda n: f"{_are(n)} not 0 without a finite reward")
    above = batch.rewards - gather(stats.mean, groups)
    with np.errstate(invalid="ignore"):
        against = used & batch.member & (np.sign(above) * a < -tolerance)
    add("sign", against, lambda n: f"{_n(n)} {_s(n, 'advantage')} with the sign against reward - group mean")
    add("varies", used & batch.varies, lambda n: f"{_n(n)} {_s(n, 'rollout')} whose token-level advantages differ")


def _about_groups(batch: Batch, add: Add) -> None:
    lost = batch.filtered & batch.member & gather(batch.spread, batch.groups)
    add("filtered with spread", lost, lambda n: f"{_n(n)} filtered {_s(n, 'rollout')} of groups with spread")
    counts = batch.sizes
    sizes, times = np.unique(counts[counts > 0], return_counts=True)
    if len(sizes) > 1:
        common = sizes[times == times.max()][-1]
        others = (counts != common) & (counts > 0)
        some = _n(int((counts > 0).sum()))
        text = f"groups of {sizes[0]} to {sizes[-1]}: {_n(int(others.sum()))} of {some} do not have {common}"
        add("uneven groups", batch.valid & gather(others, batch.groups), lambda _: text)
    twice = _duplicates(batch)
    add(
        "duplicate rewards",
        twice,
        lambda n: f"{_n(n)} rewards equal another of their group, where most differ: copies?",
    )


def _duplicates(batch: Batch) -> NDArray[np.bool_]:
    """Rewards equal to another of their group, in batches where most are unique.

    Not the smallest and the largest, where a reward may saturate; nor where the whole group has one reward.
    """
    rows = np.flatnonzero(batch.member & gather(batch.spread, batch.groups))
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
    counted = size > 1 and groups.ids == tuple(range(groups.n_groups))
    if counted and np.array_equal(np.arange(len(groups)) // size, groups.index):
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
