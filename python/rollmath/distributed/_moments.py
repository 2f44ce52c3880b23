"""Statistics and whitening of token rows that lie on several ranks: five numbers a row travel, no tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, floats, mask_bytes
from rollmath._convention import Whiten
from rollmath._token_rows import TokenRows, rank
from rollmath.distributed._exchange import Words, by_rank, exchange
from rollmath.ops import Moments
from rollmath.ops import moments as moments_of
from rollmath.ops._moments import row_moments, scalar_moments
from rollmath.ops._whiten import checked, checked_rows
from rollmath.ragged import Ragged


def moments(
    x: ArrayLike | Ragged,
    *,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    group: Any = None,
) -> Moments:
    """:func:`rollmath.ops.moments` of the rows of all ranks: mean ``sum_i w_i x_i / sum_i w_i``, and the variance.

    Five numbers a row travel, in one collective as in :func:`gather`. Rows are combined in sorted order, so every rank
    has the bits of one process, however rows are spread.

    Args:
        x: token rows of this rank, a :class:`~rollmath.Ragged` or padded ``[B, T]``, or one number a row, ``[N]``.
        weights: how often each row counts, ``[N]``; on all ranks or on none.
        valid: rows that take part, ``[N]``.
        mask: trained tokens of token rows.
        lengths: used columns of padded rows.
        group: the process group, as in :func:`gather`.

    Raises:
        ValueError: what :func:`rollmath.ops.moments` raises, on all ranks; weights on some ranks only.
        TypeError: the same.

    >>> moments([1.0, 3.0], weights=[3, 1])
    Moments(2 rows, count 4, mean 1.5, var 1)
    """
    who = "moments"
    found = exchange(
        who,
        lambda: moments_of(x, weights=weights, valid=valid, mask=mask, lengths=lengths),
        group,
        {"weights": Words("nothing" if weights is None else "one number a row")},
    )
    return Moments.merge(found.parts)


@dataclass(frozen=True)
class Part:
    """What a rank sends."""

    moments: Moments
    tokens: bool
    type: str


def whiten(
    x: ArrayLike | Ragged,
    *,
    how: Whiten = Whiten(),  # noqa: B008 - frozen
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    out: Array | Ragged | None = None,
    group: Any = None,
) -> Array | Ragged:
    """``(x_i - mean) / sqrt(var + eps)`` with mean and variance over all ranks: :func:`rollmath.temporal.whiten` there.

    Tokens stay where they are: five numbers a row travel, as in :func:`moments`. The bits are those of one process,
    however rows are spread. Methods that whiten as their last step do it here instead, once their own is left out:
    ``whiten(rm.group.reinforce_pp(r, mask=m, whiten=None), mask=m)``, with the same bits.

    Args:
        x: token rows of this rank, a :class:`~rollmath.Ragged` or padded ``[B, T]``, or one number a row, ``[N]``. The
            number of rows may differ between ranks and be 0.
        how: what is subtracted and divided; the same on all ranks.
        mask: trained tokens of token rows; the others enter no statistic and get 0.
        lengths: used columns of padded rows.
        weights: how often each row counts in the statistics, ``[N]``; on all ranks or on none.
        valid: rows that take part, ``[N]``; the others enter no statistic and get 0.
        out: where to write; token rows only.
        group: the process group, as in :func:`gather`.

    Returns:
        In the form, kind and float type of ``x``; edge cases as in :func:`rollmath.temporal.whiten`.

    Raises:
        ValueError: wrong shapes; a trained token that is not finite; sums past float64; on all ranks. Ranks with
            another ``how``; weights on some ranks only.
        TypeError: wrong dtype or rank; ranks with another float type, or with tokens where others have one number a
            row. (A rank without rows agrees with all.)

    >>> whiten([1.0, 2.0, 3.0]).round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    who = "whiten"
    apply: Any = None

    def make() -> Part:
        nonlocal apply
        if not isinstance(how, Whiten):
            msg = f"{who}(): 'how' must be a Whiten, got {how!r}"
            raise TypeError(msg)
        options = {"mask": mask, "lengths": lengths, "out": out}
        if rank(who, "x", x) == 2:
            part, apply = of_tokens(who, "x", x, **options, weights=weights, valid=valid)
        else:
            part, apply = _of_numbers(who, x, options, weights, valid)
        return part

    told = {"how": how, "weights": Words("nothing" if weights is None else "one number a row")}
    parts = exchange(who, make, group, told).parts
    return apply(affine(who, "x", how, parts))


def affine(who: str, name: str, how: Whiten, parts: list[Part]) -> tuple[float, float, float]:
    """What whitens the rows of all ranks."""
    telling = {number: part for number, part in enumerate(parts) if len(part.moments)}
    if len({(part.tokens, part.type) for part in telling.values()}) > 1:
        seen = {k: f"{part.type}, one number a {'token' if part.tokens else 'row'}," for k, part in telling.items()}
        msg = f"{who}(): {name!r} must be of one type on all ranks, got {by_rank(seen)}; convert it"
        raise TypeError(msg)
    whole = Moments.merge([part.moments for part in parts])
    tokens = any(part.tokens for part in telling.values())
    return checked(who, name, how, whole) if tokens else checked_rows(who, name, how, whole)


def of_tokens(
    who: str,
    name: str,
    x: Any,
    *,
    mask: Any = None,
    lengths: Any = None,
    weights: Any = None,
    valid: Any = None,
    out: Any = None,
) -> tuple[Part, Any]:
    """What a rank sends of token rows, and what it does with the statistics of all."""
    rows = TokenRows.of(who, name, x, mask=mask, lengths=lengths).only(valid)
    (flat,) = rows.read(**{name: x})
    own = row_moments(rows, name, flat, weights)
    # Before anything is sent, since an output that does not fit is an error too.
    arrays, views = rows.outputs(out, flat.dtype, 1, {name: flat, "mask": rows.mask})

    def apply(affine: tuple[float, float, float]) -> Array | Ragged:
        _core.affine(who, name, rows.layout, flat, rows.mask, affine, views[0])
        return rows.wrap(arrays[0])

    return Part(own, True, flat.dtype.name), apply


def _of_numbers(who: str, x: Any, options: dict[str, Any], weights: Any, valid: Any) -> tuple[Part, Any]:
    """The same for one number a row."""
    for name, value in options.items():
        if value is not None:
            msg = f"{who}(): {name!r} goes with token rows, but 'x' has one number a row; use 'valid' and 'weights'"
            raise ValueError(msg)
    values, kind = floats(who, "x", x)
    keep = mask_bytes(who, "valid", valid, length=len(values), why="len(x)")
    own = scalar_moments(who, values, weights, keep)

    def apply(affine: tuple[float, float, float]) -> Array:
        mean, divisor, add = affine
        result = (values.astype(np.float64) - mean) / divisor + add
        if keep is not None:
            result[keep == 0] = 0.0
        return kind.wrap(result.astype(values.dtype, copy=False))

    return Part(own, False, values.dtype.name), apply
