"""The rollouts among which a function chooses: read and checked, in their groups, and their order of preference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, Kind, choice
from rollmath._checks import column, finite, mask, rows, whole
from rollmath.groups import Groups, as_groups
from rollmath.ops._hash import Uids
from rollmath.select._selection import MISSING, NOT_VALID, Selection, Statistics, Unit, selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

Nan: TypeAlias = Literal["raise", "omit"]
Per: TypeAlias = Literal["group", "batch"]
Short: TypeAlias = Literal["keep", "drop", "raise"]


@dataclass(frozen=True)
class Candidates:
    """One number a rollout, checked. Those ``seen`` take part."""

    who: str
    x: NDArray[np.float64]
    groups: Groups
    kind: Kind
    valid: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    #: Secondary keys, lower first; None for none.
    ties: NDArray[np.float64] | None = None
    uids: Uids | None = None
    seed: int | None = None
    #: What one of the numbers is.
    what: str = "reward"

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        return self.valid & ~self.missing

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Rollouts of each group that take part."""
        if self._all:
            return self.groups.counts
        return np.bincount(self.groups.index[self.seen], minlength=self.groups.n_groups)

    @cached_property
    def _all(self) -> bool:
        return bool(self.seen.all())

    @property
    def only(self) -> NDArray[np.bool_] | None:
        """``seen`` for the core, None where all take part."""
        return None if self._all else self.seen

    @cached_property
    def order(self) -> NDArray[np.int64] | None:
        """``preference`` for the core, None for the order of the rows."""
        given = self.uids is not None or self.seed is not None or self.ties is not None
        return self.preference if given else None

    def within(self, per: Per) -> _core.Csr | None:
        """The groups in which the core chooses, None for the batch as a whole."""
        return self.groups._csr if per == "group" else None

    @cached_property
    def preference(self) -> NDArray[np.int64]:
        """Place of each rollout in the order in which equal ones are taken: ties, hash of uid and seed, uid, row."""
        uids, n = self.uids, len(self.groups)
        if uids is None:
            uids = Uids.of(self.who, None, n)
        place = uids.rank
        if self.seed is not None:
            words = uids.words(self.seed)
            order = np.argsort(words)
            ordered = words[order]
            if (ordered[1:] == ordered[:-1]).any():
                # Random words hardly ever are equal, and one sort is several times as fast as two.
                order = np.lexsort((place, words))
            place = np.empty(n, np.int64)
            place[order] = np.arange(n)
        if self.ties is None:
            return place
        first = place if self.uids is not None or self.seed is not None else None
        return _core.select_places(self.who, None, self.ties, None, first)

    def places(self, key: NDArray[np.float64], *, per: Per = "group") -> NDArray[np.int64]:
        """Place, from 0, of each rollout among those of its group (or the batch) that take part, by ``key`` ascending.

        Equal keys are in the order of preference. A rollout that takes no part has the place -1.
        """
        return _core.select_places(self.who, self.within(per), key, self.only, self.order)

    def select(
        self,
        rollouts: Sequence[tuple[str, NDArray[np.bool_]]] = (),
        groups: Sequence[tuple[str, NDArray[np.bool_]]] = (),
        *,
        statistics: Statistics | None = None,
        unit: Unit = "rollout",
    ) -> Selection:
        """Drops what takes no part, then whole groups for their reasons, then rollouts for theirs."""
        dropped = [(NOT_VALID, ~self.valid), (MISSING + self.what, self.missing)]
        nothing = np.zeros(len(self.x), bool)
        dropped += [(why, bad[self.groups.index] if bad.any() else nothing) for why, bad in groups]
        return selection(self.who, self.groups, [*dropped, *rollouts], self.kind, statistics=statistics, unit=unit)


def read(
    who: str,
    values: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    name: str = "rewards",
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
) -> Candidates:
    """Checks what functions of rollouts have in common.

    Raises:
        ValueError: wrong lengths; numbers that are infinite, or NaN unless omitted; an uid twice; a negative seed.
        TypeError: wrong dtype or rank.
    """
    choice(who, "nan", nan, ("raise", "omit"))
    made = as_groups(who, groups)
    x, back = rows(who, name, values, len(made))
    there = mask(who, "valid", valid, len(made))
    missing = np.isnan(x) & there if nan == "omit" else np.zeros(len(x), bool)
    seen = there & ~missing
    finite(who, name, x, seen)
    return Candidates(
        who,
        x,
        made,
        back.kind,
        there,
        missing,
        None if ties is None else column(who, "ties", ties, seen)[0],
        None if uid is None else Uids.of(who, uid, len(made)),
        None if seed is None else whole(who, "seed", seed, least=0),
        name.removesuffix("s"),
    )


def short_groups(of: Candidates, keep: int, short: Short, *, per: Per = "group") -> NDArray[np.bool_]:
    """Groups that are dropped because fewer than ``keep`` of their rollouts take part, by the policy ``short``.

    Raises:
        ValueError: ``short="raise"``, and there is such a group; the batch is one group for ``per="batch"``.
    """
    choice(of.who, "short", short, ("keep", "drop", "raise"))
    if short == "keep":
        return np.zeros(of.groups.n_groups, bool)
    if per == "group":
        few = of.counts < keep
        g = int(np.argmax(few)) if few.any() else -1
        lack = f"group {of.groups.ids[g]!r} has {of.counts[g]}" if g >= 0 else ""
    else:
        n = int(of.seen.sum())
        few = np.full(of.groups.n_groups, n < keep)
        lack = f"the batch has {n}" if n < keep else ""
    if short == "raise" and lack:
        msg = f"{of.who}(): 'keep' must be at most the rollouts that take part, got {keep}, but {lack}"
        raise ValueError(msg)
    return few
