"""Cut points by numbers of tokens alone: so many segments, or segments of such a length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import flag
from rollmath.ops._cut_rows import CutRows
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def cut_by_count(
    count: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    include_prompt: bool = False,
) -> Ragged:
    """Cuts into ``count`` segments of about equal length: of ``T`` tokens the first ``T mod count`` take one more.

    A cut at ``c`` is the prefix up to and including position ``c``: ``count - 1`` cuts a row, fewer where it has fewer
    tokens than that.

    Args:
        count: number of segments, one for all rows or one a row.
        lengths: tokens of each row, ints ``[B]``; enough by themselves.
        mask: trained tokens (bool or int, nonzero = True), a :class:`~rollmath.Ragged` or padded ``[B, T]``; they alone
            are counted. ``lengths`` are then the used columns of padded rows.
        include_prompt: cut at -1, too, in every row that has a trained token. Without it nothing is said about the
            value of the prompt, and so about the first segment.

    Returns:
        A Ragged of int64 positions, ascending in each row.

    Raises:
        ValueError: neither ``lengths`` nor ``mask``; ``count`` less than 1; wrong shapes.
        TypeError: wrong dtype or rank.

    Source: the naive chain of SPO, arXiv 2505.23564, official code executed (4 segments).

    >>> cut_by_count(4, lengths=[10, 3]).to_lists()
    [[2, 5, 7], [0, 1]]
    """
    who = "cut_by_count"
    given = CutRows.of_lengths(who, lengths, mask)
    tokens = np.diff(given.first)
    # More segments than tokens are as many as tokens.
    parts = np.minimum(given.per_row("count", count), np.maximum(tokens, 1))
    row, j = _numbered(parts - 1)
    base, more = np.divmod(tokens, parts)
    return _after(given, row, base[row] * j + np.minimum(j, more[row]), include_prompt)


def cut_by_length(
    segment_length: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    include_prompt: bool = False,
) -> Ragged:
    """Cuts after every ``segment_length`` tokens: ``ceil(T / segment_length)`` segments, the last one shorter.

    A cut at ``c`` is the prefix up to and including position ``c``; none is after the last token of a row.

    Args:
        segment_length: tokens of a segment, one number for all rows or one a row.
        lengths: tokens of each row, ints ``[B]``; enough by themselves.
        mask: trained tokens, as in :func:`cut_by_count`; they alone are counted.
        include_prompt: cut at -1, too, in every row that has a trained token.

    Returns:
        A Ragged of int64 positions, ascending in each row.

    Raises:
        ValueError: neither ``lengths`` nor ``mask``; ``segment_length`` less than 1; wrong shapes.
        TypeError: wrong dtype or rank.

    >>> cut_by_length(4, lengths=[9, 4]).to_lists(), cut_by_length(2, mask=[[1, 0, 1, 1]]).to_lists()
    ([[3, 7], []], [[2]])
    """
    who = "cut_by_length"
    given = CutRows.of_lengths(who, lengths, mask)
    step = given.per_row("segment_length", segment_length)
    row, j = _numbered(np.maximum(-(-np.diff(given.first) // step) - 1, 0))
    return _after(given, row, j * step[row], include_prompt)


def _numbered(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and number, from 1, of each of so many things a row."""
    row = np.repeat(np.arange(len(counts)), counts)
    return row, np.arange(1, len(row) + 1) - (np.cumsum(counts) - counts)[row]


def _after(given: CutRows, row: NDArray[np.int64], nth: NDArray[np.int64], include_prompt: bool) -> Ragged:
    """Cuts after the n-th trained token of their row, n from 1."""
    position = nth - 1
    if given.trained is not None:
        position = given.at[given.first[row] + position] - given.begin[row]
    return given.cuts(row, position, include_prompt=flag(given.who, "include_prompt", include_prompt))
