"""Selection: what a selection keeps, and a report of what it drops and why."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import Array, Immutable, Kind, frozen
from rollmath.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Groups that a printed report names for each reason.
_SHOWN = 4


class Dropped(NamedTuple):
    """What was dropped for one reason.

    Attributes:
        reason: in words, such as ``"no spread"``.
        groups: number of groups that lost rollouts for it.
        rollouts: number of rollouts.
        ids: of these groups, in the order of ``groups.ids``.
        counts: rollouts that each of them lost for it.
    """

    reason: str
    groups: int
    rollouts: int
    ids: tuple[Any, ...]
    counts: tuple[int, ...]


class SelectionReport(Immutable):
    """What a selection kept and dropped, per reason; ``print`` it.

    Attributes:
        method: what selected.
        reasons: the reasons for which a rollout can be dropped, in words.
        codes: of each rollout, 0 if it was kept, else 1 + the number of its reason; int8 ``[N]``, read-only.

    >>> from rollmath.select import nonzero_spread
    >>> print(nonzero_spread([1.0, 0.0, 1.0, 1.0, 0.5], ["a", "a", "b", "b", "c"]).report)
    nonzero_spread kept 2 of 5 rollouts in 1 of 3 groups
      no spread     1 group, 2 rollouts: 'b' (2)
      group of one  1 group, 1 rollout: 'c' (1)
    """

    method: str
    reasons: tuple[str, ...]
    codes: NDArray[np.int8]
    _groups: Groups

    def __init__(self, method: str, reasons: Sequence[str], codes: NDArray[np.int8], groups: Groups) -> None:
        self._fill(method=method, reasons=tuple(reasons), codes=frozen(codes), _groups=groups)

    @property
    def n_groups(self) -> int:
        """Groups that there were."""
        return self._groups.n_groups

    @property
    def n_rollouts(self) -> int:
        """Rollouts that there were."""
        return len(self.codes)

    @cached_property
    def kept_rollouts(self) -> int:
        """Rollouts that were kept."""
        return int((self.codes == 0).sum())

    @property
    def dropped_rollouts(self) -> int:
        """Rollouts that were not."""
        return self.n_rollouts - self.kept_rollouts

    @cached_property
    def kept_groups(self) -> int:
        """Groups of which a rollout was kept."""
        kept = np.zeros(self.n_groups, bool)
        kept[self._groups.index[self.codes == 0]] = True
        return int(kept.sum())

    @property
    def dropped_groups(self) -> int:
        """Groups of which none was."""
        return self.n_groups - self.kept_groups

    @cached_property
    def dropped(self) -> tuple[Dropped, ...]:
        """What was dropped, for each reason that dropped something."""
        found = []
        for code, reason in enumerate(self.reasons, start=1):
            counts = np.bincount(self._groups.index[self.codes == code], minlength=self.n_groups)
            at = np.flatnonzero(counts)
            if len(at):
                ids = tuple(self._groups.ids[g] for g in at.tolist())
                found.append(Dropped(reason, len(at), int(counts.sum()), ids, tuple(counts[at].tolist())))
        return tuple(found)

    def __str__(self) -> str:
        kept = f"{self.kept_rollouts} of {_number(self.n_rollouts, 'rollout')}"
        lines = [f"{self.method} kept {kept} in {self.kept_groups} of {_number(self.n_groups, 'group')}"]
        width = max((len(one.reason) for one in self.dropped), default=0)
        for one in self.dropped:
            named = [f"{key!r} ({n})" for key, n in zip(one.ids[:_SHOWN], one.counts[:_SHOWN], strict=True)]
            if one.groups > _SHOWN:
                named.append(f"and {one.groups - _SHOWN} more")
            counts = f"{_number(one.groups, 'group')}, {_number(one.rollouts, 'rollout')}"
            lines.append(f"  {one.reason:<{width}}  {counts}: {', '.join(named)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"SelectionReport({self.method}: {self.kept_rollouts} of {self.n_rollouts} rollouts kept, "
            f"{self.dropped_groups} of {self.n_groups} groups dropped)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return SelectionReport, (self.method, self.reasons, self.codes.copy(), self._groups)


class Selection(NamedTuple):
    """What a function of :mod:`rollmath.select` keeps, whatever its options.

    Attributes:
        indices: the rollouts kept, ascending, int64; of the kind and on the device of the values selected by.
        mask: True for these, bool ``[N]``; of the same kind.
        report: how many were kept and dropped, of which groups, and why: a :class:`SelectionReport`.
    """

    indices: Array
    mask: Array
    report: SelectionReport

    def __repr__(self) -> str:
        return f"Selection({self.report.kept_rollouts} of {self.report.n_rollouts} rollouts by {self.report.method})"


def selection(method: str, groups: Groups, dropped: Sequence[tuple[str, NDArray[np.bool_]]], kind: Kind) -> Selection:
    """Of the reasons and, for each, the rollouts that it drops; the first reason of a rollout counts."""
    codes = np.zeros(len(groups), np.int8)
    for number in range(len(dropped), 0, -1):
        codes[dropped[number - 1][1]] = number
    mask = codes == 0
    report = SelectionReport(method, [reason for reason, _ in dropped], codes, groups)
    return Selection(kind.wrap(np.flatnonzero(mask)), kind.wrap(mask), report)


def _number(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
