"""Turns of rollouts: which trained tokens of a rollout are its first turn, its second, and so on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import is_tensor
from rollmath._columns import column_of, nested
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the column ``turns`` can say instead of numbers.
WAYS = ("run", "row")


class Turns(NamedTuple):
    """The turns of rollouts, as runs of trained positions that are all of one turn, in the order of positions.

    Attributes:
        start: position where each run begins.
        end: position after its last.
        row: that it is in.
        rollout: of it.
        number: of its turn in the rollout.
        counts: turns of each rollout; -1 where their number is not known.
        of_rows: the turn of each row, if turns are rows; else None.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    row: NDArray[np.int64]
    rollout: NDArray[np.int64]
    number: NDArray[np.int64]
    counts: NDArray[np.int64]
    of_rows: NDArray[np.int64] | None = None


def turns_of(who: str, rows: Rows, turns: Any) -> Turns:
    """From the column ``turns``.

    Args:
        who: for messages.
        rows: the rows, as they were given.
        turns: None or ``"run"``: a maximal run of trained positions is a turn, in the rows of a rollout by their
            segments; ``"row"``: a row is one, by its segment; or the number of its turn in the rollout at each
            position, in any form of a column of the rows, -1 at gaps.

    Raises:
        ValueError: another word; rows of a rollout with the same segment; numbers of wrong lengths.
        TypeError: no integers.
    """
    order = _in_time(who, rows)
    if turns is None or isinstance(turns, str):
        if turns not in {None, *WAYS}:
            msg = f"{who}(): 'turns' must be 'run', 'row' or numbers of turns, one a position, got {turns!r}"
            raise ValueError(msg)
        start, end, row, rollout = _runs(rows)
        if turns == "row":
            rank = np.empty(rows.n_rows, np.int64)
            rank[order] = np.arange(rows.n_rows) - np.repeat(rows.rollouts.offsets[:-1], rows.rollouts.counts)
            return Turns(start, end, row, rollout, rank[row], rows.rollouts.counts, rank)
        counts = np.bincount(rollout, minlength=rows.n_rollouts)
        by = _sorted(order, row)
        number = np.empty(len(by), np.int64)
        number[by] = np.arange(len(by)) - (np.cumsum(counts) - counts)[rollout[by]]
        # Of a rollout that trains nothing no turn is seen, however many it had.
        return Turns(start, end, row, rollout, number, np.where(counts > 0, counts, -1))
    turns = turns.tolist() if isinstance(turns, np.ndarray) and turns.dtype == object else turns
    try:
        found = column_of("turns", nested("turns", turns), rows.offsets, "integers")
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace("Rows()", f"{who}()", 1)) from None
    assert found is not None
    numbers = np.asarray(found.values)
    start, end, row, rollout = _runs(rows, numbers)
    number = numbers[start].astype(np.int64)
    if (number < 0).any():
        at = int(np.argmax(number < 0))
        msg = f"{who}(): 'turns' must be at least 0 where a token is trained, got {number[at]} at "
        raise ValueError(msg + place(rows, row[at], start[at]))
    return Turns(start, end, row, rollout, number, np.full(rows.n_rollouts, -1))


def spread(values: Any, turns: Turns, n: int) -> Any:
    """One number a run, at its positions of ``n``; 0 in the gaps between them."""
    # Gap and run by turns, so that one pass writes all positions.
    counts = np.empty(2 * len(turns.start) + 1, np.int64)
    counts[1::2] = turns.end - turns.start
    counts[::2] = np.append(turns.start, n) - np.append(0, turns.end)
    if is_tensor(values):
        import torch  # noqa: PLC0415 - a tensor came, so it is loaded

        both = values.new_zeros(len(counts))
        both[1::2] = values
        return both.repeat_interleave(torch.from_numpy(counts).to(values.device), output_size=n)
    both = np.zeros(len(counts), values.dtype)
    both[1::2] = values
    return np.repeat(both, counts)


def place(rows: Rows, row: Any, position: Any) -> str:
    """A position, for messages."""
    return f"row {row}, position {position - rows.offsets[row]}"


def _in_time(who: str, rows: Rows) -> NDArray[np.int64]:
    """Rows by rollout and segment."""
    order = np.lexsort((rows.segment, rows.rollouts.index))
    same = (np.diff(rows.rollouts.index[order]) == 0) & (np.diff(rows.segment[order]) == 0)
    if same.any():
        first, second = sorted(order[int(np.argmax(same)) :][:2].tolist())
        msg = (
            f"{who}(): 'rows' must have segments in the order of time, but rollout "
            f"{rows.rollouts.ids[rows.rollouts.index[first]]!r} has rows {first} and {second} of segment "
            f"{rows.segment[first]}; number the rows with segment="
        )
        raise ValueError(msg)
    return order


def _sorted(order: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs by rollout and time."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.argsort(rank[row], kind="stable")


def _runs(rows: Rows, numbers: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], ...]:
    """Maximal runs of trained positions in a row, of equal ``numbers``: where they begin and end, row and rollout."""
    live = np.ones(int(rows.offsets[-1]), bool) if rows.mask is None else rows.mask != 0
    begins = live.copy()
    begins[1:] &= ~live[:-1]
    first = rows.offsets[:-1][rows.lengths > 0]
    begins[first] = live[first]
    if numbers is not None:
        begins[1:] |= live[1:] & (numbers[1:] != numbers[:-1])
    ends = live.copy()
    ends[:-1] &= ~live[1:] | begins[1:]
    start = np.flatnonzero(begins)
    row = np.searchsorted(rows.offsets, start, side="right") - 1
    return start, np.flatnonzero(ends) + 1, row, rows.rollouts.index[row]


def tokens_of_turns(who: str, rows: Rows, turns: Turns, counts: NDArray[np.int64]) -> list[list[int]]:
    """A number for the trained tokens of each turn, equal where these are; turns without any are like no other.

    Args:
        who: for messages.
        rows: with tokens.
        turns: of their rollouts.
        counts: turns of each rollout.
    """
    if rows.tokens is None:
        msg = (
            f"{who}(): needs 'actions' (one list a rollout, what the agent did at each of its steps), or 'rows' with "
            "tokens, those of a turn being its action; pass actions=..., or Rows(..., tokens=...)"
        )
        raise ValueError(msg)
    ids, first = np.ascontiguousarray(rows.tokens.values), np.cumsum(counts) - counts
    by = _sorted(_in_time(who, rows), turns.row)
    where = (turns.start[by], turns.end[by], first[turns.rollout[by]] + turns.number[by])
    texts = [b""] * int(counts.sum())
    for start, end, turn in zip(*(x.tolist() for x in where), strict=True):
        texts[turn] += ids[start:end].tobytes()
    known: dict[bytes, int] = {}
    found = [known.setdefault(text, len(known)) if text else -1 - i for i, text in enumerate(texts)]
    return [found[a : a + n] for a, n in zip(first.tolist(), counts.tolist(), strict=True)]
