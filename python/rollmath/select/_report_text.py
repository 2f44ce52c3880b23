"""What a report of a selection prints."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollmath.select._selection import Dropped, SelectionReport

#: Groups that a printed report names for each reason, as long as their names are not longer than this together.
_SHOWN, _ROOM = 4, 100
#: Characters of a name, such as the text of a prompt.
_LONGEST = 36


def text(report: SelectionReport) -> str:
    """The counts, then a line for each reason."""
    grouped = apart(report)
    where = f" in {report.kept_groups} of {number_of(report.n_groups, 'group')}" if grouped else ""
    taken = f"; statistics {report.statistics}" if report.statistics else ""
    first = f"{report.method} kept {report.kept_rollouts} of {number_of(report.n_rollouts, report.unit)}{where}{taken}"
    lines, dropped = [first], report.dropped
    width = max((len(one.reason) for one in dropped), default=0)
    groups = _column(number_of(one.groups, "group") + "," for one in dropped)
    counts = _column(number_of(one.rollouts, report.unit) for one in dropped)
    for one, of, n in zip(dropped, groups, counts, strict=True):
        of_each = [f" ({count})" for count in one.counts[:_SHOWN]] if grouped else [""] * _SHOWN
        number = f"{of} {n.rstrip()}" if grouped else n.rstrip()
        named = f"{_range(one.counts)} of each" if _everywhere(report, one) else _shown(one.ids, of_each)
        lines.append(f"  {one.reason:<{width}}  {number}: {named}")
    if grouped and report.lost and not _named_above(report):
        lines.append(f"  nothing is left of {number_of(len(report.lost), 'group')}: {_shown(report.lost)}")
    return "\n".join(lines)


def apart(report: SelectionReport) -> bool:
    """Whether groups are something else than what was selected; to count prompts as groups too would say it twice."""
    return report.unit == "rollout" or report.n_groups < report.n_rollouts


def _everywhere(report: SelectionReport, one: Dropped) -> bool:
    """Whether every one of many groups lost rollouts for this reason: the names of the first say little then."""
    return _SHOWN < one.groups == report.n_groups < report.n_rollouts


def _named_above(report: SelectionReport) -> bool:
    """Whether every reason took whole groups, so that the lines of the reasons say which are gone."""
    if any(_everywhere(report, one) for one in report.dropped):
        return False
    sizes = dict(zip(report._groups.ids, report._groups.counts.tolist(), strict=True))
    return all(sizes[key] == n for one in report.dropped for key, n in zip(one.ids, one.counts, strict=True))


def number_of(n: int, what: str) -> str:
    """``1 group``, ``2 groups``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _column(cells: Iterable[str]) -> list[str]:
    """Of numbers and words, the numbers right-aligned and all of one width."""
    pairs = [cell.split(" ") for cell in cells]
    digits, rest = (max((len(pair[i]) for pair in pairs), default=0) for i in range(2))
    return [f"{number:>{digits}} {word:<{rest}}" for number, word in pairs]


def _shown(ids: Sequence[Any], after: Sequence[str] = ("",) * _SHOWN) -> str:
    """The first of some ids, each followed by what is said of it, and how many there are besides."""
    named = [f"{_name(key)}{more}" for key, more in zip(ids[:_SHOWN], after, strict=False)]
    while len(named) > 1 and sum(map(len, named)) > _ROOM:
        named.pop()
    rest = len(ids) - len(named)
    return ", ".join([*named, f"and {rest} more"] if rest else named)


def _name(key: Any) -> str:
    """An id; of a long text how it begins, in one line."""
    text = str(key) if isinstance(key, uuid.UUID) else repr(key)
    if len(text) <= _LONGEST:
        return text
    if isinstance(key, str):
        return f"'{' '.join(key.split())[: _LONGEST - 5].rstrip()}...'"
    end = text[-1] if text[0] in "'\"([" else ""
    return f"{text[: _LONGEST - 3 - len(end)]}...{end}"


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"
