"""A selection among the rollouts of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from rollmath._arrays import ArrayLike, describe, is_tensor
from rollmath.distributed._columns import Column, ids
from rollmath.distributed._exchange import Words, exchange, ranks
from rollmath.distributed._gather import Gathered, joined, sent
from rollmath.groups import Groups
from rollmath.select import Selection
from rollmath.select._call import Signature, signature_of
from rollmath.select._selection import SelectionReport

#: The ids of the rollouts as a column.
_UID = "uid"


class Selected(NamedTuple):
    """What was selected among the rollouts of all ranks.

    Attributes:
        selection: the rollouts of this rank that were kept; its report is of the rollouts of this rank.
        report: of all ranks, the same on each: the one to print.
    """

    selection: Selection
    report: SelectionReport


def select(
    method: Callable[..., Selection],
    rewards: ArrayLike | None,
    groups: Groups | ArrayLike,
    *,
    uid: Groups | ArrayLike | None = None,
    group: Any = None,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> Selected:
    """``method(rewards, groups, uid=uid, **columns, **options)`` over all ranks, and of it the part of this one.

    Every rank computes all of it. Among equal rollouts, and at random, the functions of :mod:`rollmath.select` choose
    by the ids of the rollouts, so that the selection is the one of a single process, whatever lies where and in which
    order.

    Args:
        method: ``rm.select.max_variance`` or any function of values and groups (or prompts) that returns a
            :class:`~rollmath.select.Selection`; pure, since each rank calls it.
        rewards: what the method takes before its groups, one number a rollout of this rank, ``[N]``; None for a method
            that looks at no values (``random``, ``quota``). N may differ between ranks and be 0.
        groups: a :class:`~rollmath.Groups` or one id a rollout; a group may lie on several ranks. For a function of
            prompts, these.
        uid: one id a rollout, each different from all others of all ranks. Needed by every method that takes one: the
            order of the rows, by which it would choose without, is not the same where rollouts are spread in another
            way.
        group: the process group, as in :func:`gather`.
        columns: what else has one value a rollout, by the name that the method has for it:
            ``{"ties": lengths, "valid": ok, "strata": n_tool_calls}``.
        **options: all else that the method takes; the same on all ranks, which is checked.

    Returns:
        ``(selection, report)``: :class:`Selected`. Indices are those of the rollouts of this rank. A group of which
        this rank has nothing left may live on another one; the report of all ranks knows.
        ``selection.advantages`` sees the rollouts of this rank alone; over all of them it needs :func:`advantages`:
        ``lambda r, g, valid: advantages(rm.group.grpo, r, g, columns={"valid": valid})``.

    Raises:
        ValueError: what :func:`gather` and the method raise, on all ranks, with the rank of the row that it names; no
            ids where the method needs them, or an id on two ranks; ranks with other options.
        TypeError: the same; ``method`` cannot be called, or returns something else.

    >>> from rollmath.select import nonzero_spread
    >>> chosen, report = select(nonzero_spread, [1.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"])
    >>> chosen.indices.tolist(), report.lost
    ([0, 1], ('b',))
    """
    who = "select"
    of: Any = None
    values: Any = rewards

    def make() -> dict[str, Column]:
        nonlocal of, values
        of = signature_of(who, method)
        if columns is not None and not isinstance(columns, Mapping):
            msg = f"{who}(): 'columns' must be a mapping from names to values, got {describe(columns)}"
            raise TypeError(msg)
        given = dict(columns or {})
        _check(who, of, rewards, uid, given, options)
        made = ids(who, of.ids, groups)
        if rewards is None:
            # Of no values nothing is sent; the result is of the kind of what the method has in their place.
            others: tuple[Any, ...] = (groups, *(given.get(name) for name in of.columns if name != "ties"))
            tensor = next((x for x in others if is_tensor(x)), None)
            values = np.zeros((made.n, 0)) if tensor is None else tensor.new_zeros((made.n, 0))
        found = sent(who, values, groups, given)
        return found if uid is None else found | {_UID: ids(who, _UID, uid, made.n)}

    said = {"method": method, "rewards": Words("none" if rewards is None else "one a rollout"), **options}
    whole = joined(who, exchange(who, make, group, said), values)
    given = dict(whole.columns)
    if uid is not None:
        given[_UID] = _distinct(who, whole)
        if not of.takes(_UID) and not of.open:
            del given[_UID]
    try:
        chosen = of(who, whole.rewards, whole.groups, {**given, **options})
    except (TypeError, ValueError) as error:
        if len(whole.sizes) == 1:
            raise
        raise whole.placed(error) from error
    if chosen.report.n_rollouts != len(whole):
        msg = (
            f"{who}(): 'method' must return a Selection of all {len(whole)} rollouts, got one of "
            f"{chosen.report.n_rollouts}"
        )
        raise ValueError(msg)
    return Selected(part_of(whole, chosen), chosen.report)


def _check(who: str, of: Signature, rewards: Any, uid: Any, columns: Mapping[str, Any], options: Any) -> None:
    """Raises for what is missing or given twice."""
    own = {_UID, of.ids, *([] if of.values is None else [of.values]), *options}
    if wrong := sorted(set(columns) & own):
        msg = f"{who}(): 'columns' has {wrong[0]!r}, which is given as an argument of its own already"
        raise ValueError(msg)
    if wrong := sorted({"valid", *of.columns} & {name for name, x in options.items() if x is not None}):
        msg = f"{who}(): {wrong[0]!r} has one value a rollout; pass columns={{{wrong[0]!r}: ...}}"
        raise ValueError(msg)
    if (rewards is None) != (of.values is None):
        what = "be None for" if of.values is None else "be one number a rollout for"
        takes = "looks at no values" if of.values is None else f"takes them as {of.values!r}"
        msg = f"{who}(): 'rewards' must {what} {of.name!r}, which {takes}"
        raise ValueError(msg)
    if uid is None and of.takes(_UID):
        msg = (
            f"{who}(): 'uid' must be given, one id a rollout, for {of.name!r}: among equal rollouts it chooses by the "
            "order of the rows else, and so by what lies on which rank"
        )
        raise ValueError(msg)
    for name in of.required:
        if name not in columns and name not in options:
            of_rollouts = name in of.columns
            fix = f"columns={{{name!r}: ...}}, one value a rollout" if of_rollouts else f"{name}=..."
            msg = f"{who}(): {of.name!r} needs {name!r}; pass {fix}"
            raise ValueError(msg)


def _distinct(who: str, whole: Gathered) -> Any:
    """The ids of all rollouts."""
    of = whole.columns[_UID]
    if of.n_groups < len(of):
        twice = int(np.flatnonzero(of.counts > 1)[0])
        on = dict.fromkeys(whole.where(int(row))[0] for row in of.rows(twice))
        where = f"twice on {ranks(on)}" if len(on) == 1 else f"on {ranks(on)}"
        where = "there twice" if len(whole.sizes) == 1 else where
        msg = f"{who}(): 'uid' must be distinct over all ranks, but {of.ids[twice]!r} is {where}"
        raise ValueError(msg)
    return of


def part_of(whole: Gathered, chosen: Selection) -> Selection:
    """What was selected of the rollouts of this rank."""
    report, rows = chosen.report, np.arange(len(whole))[whole.rows]
    codes = report.codes[rows]
    own = SelectionReport(
        report.method, report.reasons, codes, whole.groups.take(rows), statistics=report.statistics, unit=report.unit
    )
    mask = codes == 0
    return Selection(whole.as_given(np.flatnonzero(mask)), whole.as_given(mask), own)
