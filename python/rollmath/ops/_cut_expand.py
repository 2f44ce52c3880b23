"""Segments between cuts: the number of each token's segment, and from one number a segment to its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind
from rollmath.ops._cut_rows import CutRows
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def segment_of(
    cuts: Ragged,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
) -> Array | Ragged:
    """The number of each token's segment, ``j`` for the tokens ``t`` with ``c_{j-1} < t <= c_j``; -1 at gaps.

    A row with ``m`` cuts has the segments ``0 .. m``. A first cut at -1, the bare prompt, leaves segment 0 without
    tokens.

    Args:
        cuts: positions in each row, as the ``cut_by_...`` functions return them.
        lengths: tokens of each row, ints ``[B]``; enough by themselves.
        mask: trained tokens (bool or int, nonzero = True), a :class:`~rollmath.Ragged` or padded ``[B, T]``, whose form
            the result gets; ``lengths`` are then the used columns of padded rows.

    Returns:
        int64, in the form of ``mask``, or a Ragged. :func:`rollmath.temporal.expand_turns` takes it as turns.

    Raises:
        ValueError: neither ``lengths`` nor ``mask``; cuts that do not ascend, or not before the last trained token.
        TypeError: ``cuts`` that are no Ragged; wrong dtype or rank.

    >>> segment_of(Ragged.from_lists([[1, 2], [-1]]), lengths=[5, 2]).to_lists()
    [[0, 0, 1, 2, 2], [1, 1]]
    """
    given = CutRows.of_lengths("segment_of", lengths, mask)
    c, offsets = given.read_cuts(cuts)
    lengths_of = given.segment_lengths(c, offsets)
    begin = offsets + np.arange(len(offsets))
    number = np.arange(len(lengths_of)) - np.repeat(begin[:-1], np.diff(begin))
    flat = np.repeat(number, lengths_of)
    if given.trained is not None:
        flat[~given.trained] = -1
    return given.rows.wrap(given.rows.kind.wrap(flat.reshape(given.rows.shape)))


def expand_segments(
    x: ArrayLike | Ragged,
    cuts: Ragged,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """The number of its segment for each token: ``y_t = x_j`` where ``c_{j-1} < t <= c_j``, 0 at gaps and padding.

    Args:
        x: one number a segment, a :class:`~rollmath.Ragged` or padded ``[B, K]``; of a row with ``m`` cuts the first
            ``m + 1`` are read. Where the first cut is -1 the first number has no tokens.
        cuts: positions in each row, as the ``cut_by_...`` functions return them.
        lengths: tokens of each row, ints ``[B]``; enough by themselves.
        mask: trained tokens (bool or int, nonzero = True), a Ragged or padded ``[B, T]``, whose form the result gets;
            ``lengths`` are then the used columns of padded rows.
        out: where to write, of the form and float type of the result.

    Returns:
        In the form of ``mask``, or a Ragged; of the kind and float type of ``x``.

    Raises:
        ValueError: as :func:`segment_of`; a row of ``x`` shorter than its segments.
        TypeError: likewise.

    >>> cuts = Ragged.from_lists([[1, 2], []])
    >>> expand_segments([[0.5, -1.0, 2.0], [3.0, 0.0, 0.0]], cuts, lengths=[5, 1]).to_lists()
    [[0.5, 0.5, -1.0, 2.0, 2.0], [3.0]]
    """
    who = "expand_segments"
    source = CutRows.of(who, "x", x)
    (numbers,) = source.rows.read(x=x)
    given = CutRows.of_lengths(who, lengths, mask)
    if source.rows.rows != given.rows.rows:
        msg = f"{who}(): 'x' must have {given.rows.rows} rows (= those of {given.rows.name!r}), got {source.rows.rows}"
        raise ValueError(msg)
    c, offsets = given.read_cuts(cuts)
    count = np.diff(offsets) + 1
    if (bad := source.size < count).any():
        i = int(bad.argmax())
        msg = f"{who}(): 'x' must have a number for each of the {count[i]} segments of row {i}, got {source.size[i]}"
        raise ValueError(msg)
    begin = offsets + np.arange(len(offsets))
    own = numbers[np.arange(begin[-1]) + np.repeat(source.begin - begin[:-1], count)]
    return spread(given, own, c, offsets, kind=source.rows.kind, out=out)


def spread(
    given: CutRows,
    x: NDArray[Any],
    cuts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    *,
    kind: Kind,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """:func:`expand_segments` of what has been read: the segments of all rows in one array."""
    rows = given.rows.like_kind(kind)
    arrays, (flat,) = rows.outputs(out, x.dtype, 1, {"x": x, "mask": rows.mask})
    flat[:] = np.repeat(x, given.segment_lengths(cuts, offsets))
    if given.trained is not None:
        flat[~given.trained] = 0
    return rows.wrap(arrays[0])
