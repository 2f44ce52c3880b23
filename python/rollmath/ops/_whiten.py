"""``whiten``: mean 0 and variance 1 over a batch, as a step of its own."""

from __future__ import annotations

import numpy as np

from rollmath._arrays import Array, ArrayLike, floats, mask_bytes
from rollmath._convention import Whiten
from rollmath.ops._moments import Moments
from rollmath.ops._moments import moments as moments_of


def whiten(
    x: ArrayLike,
    *,
    how: Whiten = Whiten(),  # noqa: B008 - frozen
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    moments: Moments | None = None,
    name: str = "x",
    who: str = "whiten",
) -> Array:
    """``(x_i - mean) / sqrt(var + eps)`` over a batch; see :class:`~rollmath.conventions.Whiten` for the variants.

    Args:
        x: one number a row, ``[N]``.
        how: what is subtracted and divided.
        weights: how often each row counts in the statistics: its number of tokens, say. Default 1.
        valid: rows that take part (bool or int, nonzero = True); the others get 0.
        moments: statistics to use instead of those of ``x``: of all ranks, merged.
        name: what your own method calls ``x``, for error messages.
        who: its name, likewise.

    >>> whiten([1.0, 2.0, 3.0]).round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    values, kind = floats(who, name, x)
    mask = mask_bytes(who, "valid", valid, length=len(values), why=f"len({name})")
    m = moments if moments is not None else moments_of(values, weights=weights, valid=mask)
    out = values.astype(np.float64) - m.mean
    if m.constant:
        out = np.zeros_like(out)
    out /= how.divisor(float(np.sqrt(m.var(ddof=how.ddof))))
    if not how.shift_mean:
        out += m.mean
    if mask is not None:
        out[mask == 0] = 0.0
    return kind.wrap(out.astype(values.dtype, copy=False))
