"""``expand``: from one number a row to its tokens, once, at the end."""

from __future__ import annotations

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, floats, integers
from rollmath._buffers import as_width
from rollmath._token_rows import TokenRows, lengths_only
from rollmath.ragged import Ragged


def expand(
    x: ArrayLike,
    *,
    lengths: ArrayLike | None = None,
    mask: ArrayLike | Ragged | None = None,
    width: int | None = None,
    out: Array | Ragged | None = None,
) -> Array | Ragged:
    """``y_it = x_i`` at the trained tokens of row ``i``, 0 at gaps and padding.

    With ``lengths`` alone nothing but they are read, which is several times faster than a mask.

    Args:
        x: one number a row, ``[B]``: an advantage.
        lengths: tokens of each row, ints ``[B]``.
        mask: trained tokens (bool or int, nonzero = True), a :class:`~rollmath.Ragged` or padded ``[B, T]``, whose form
            the result gets; ``lengths`` are then the used columns of padded rows.
        width: with ``lengths`` alone: columns of a padded result. Default: that of ``out``, if it is 2-D; else the
            result is a Ragged.
        out: where to write, of the form and float type of the result.

    Raises:
        ValueError: wrong shapes; neither ``lengths`` nor ``mask``; a row longer than ``width``.
        TypeError: wrong dtype or rank.

    >>> expand([0.5, -1.0], lengths=[2, 1]).to_lists(), expand([0.5, -1.0], lengths=[2, 1], width=3).tolist()
    ([[0.5, 0.5], [-1.0]], [[0.5, 0.5, 0.0], [-1.0, 0.0, 0.0]])
    """
    who = "expand"
    values, kind = floats(who, "x", x)
    if mask is not None:
        if width is not None:
            msg = f"{who}(): 'width' goes with 'lengths' alone; 'mask' has its own"
            raise ValueError(msg)
        rows = TokenRows.of(who, "mask", mask, lengths=lengths).masked(mask)
    elif lengths is None:
        msg = f"{who}(): 'lengths' or 'mask' is needed, which say what the rows are"
        raise ValueError(msg)
    else:
        if width is None and not isinstance(out, Ragged) and len(getattr(out, "shape", ())) == 2:
            width = int(out.shape[1])  # type: ignore[union-attr]
        rows = lengths_only(who, lengths) if width is None else _padded(who, lengths, as_width(who, width))
    rows = rows.like_kind(kind)
    if len(values) != rows.rows:
        msg = f"{who}(): 'x' must have length {rows.rows} (= the number of rows), got {len(values)}"
        raise ValueError(msg)
    arrays, views = rows.outputs(out, values.dtype, 1, {"x": values, "mask": rows.mask})
    _core.expand(who, rows.layout, values, rows.mask, views[0])
    return rows.wrap(arrays[0])


def _padded(who: str, lengths: ArrayLike, width: int) -> TokenRows:
    used, kind = integers(who, "lengths", lengths)
    if width > 2**48:
        msg = f"{who}(): 'width' must be at most 2**48, got {width}"
        raise ValueError(msg)
    layout = _core.Layout.padded(who, len(used), width, used)
    return TokenRows(who, "lengths", kind, (len(used), width), None, layout)
