"""``whiten``: mean 0 and variance 1 over a batch, as a step of its own."""

from __future__ import annotations

import math

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, describe, floats, mask_bytes
from rollmath._convention import Whiten
from rollmath._token_rows import rank
from rollmath.ops._device_rows import DeviceRows, rows_of
from rollmath.ops._device_scan import whitened_on_device
from rollmath.ops._moments import Moments, row_moments, scalar_moments
from rollmath.ragged import Ragged


def affine_of(how: Whiten, moments: Moments) -> tuple[float, float, float]:
    """``(mean, divisor, add)`` of a whitening."""
    mean = moments.mean
    divisor = 1.0 if moments.constant else how.divisor(math.sqrt(moments.var(ddof=how.ddof)))
    return mean, divisor, 0.0 if how.shift_mean else mean


def checked(who: str, name: str, how: Whiten, moments: Moments) -> tuple[float, float, float]:
    """The same, 0 and 1 of nothing; raises where it is not finite."""
    if not moments.count:
        return 0.0, 1.0, 0.0
    affine = affine_of(how, moments)
    if not all(map(math.isfinite, affine)):
        msg = f"{who}(): {name!r} must be small enough for sums in float64, but mean or variance is not finite"
        raise ValueError(msg)
    return affine


def checked_rows(who: str, name: str, how: Whiten, moments: Moments) -> tuple[float, float, float]:
    """The same of one number a row: raises where sums of finite numbers are not finite, and passes NaN on.

    What is finite is looked up in the moments, not in the values here: ranks that whiten by merged moments must agree.
    """
    return checked(who, name, how, moments) if moments.finite else affine_of(how, moments)


def whiten(
    x: ArrayLike | Ragged,
    *,
    how: Whiten = Whiten(),  # noqa: B008 - frozen
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    moments: Moments | None = None,
    out: Array | Ragged | None = None,
    name: str = "x",
    weights_name: str = "weights",
    who: str = "whiten",
) -> Array | Ragged:
    """``(x_i - mean) / sqrt(var + eps)`` over a batch; see :class:`~rollmath.conventions.Whiten` for the variants.

    Args:
        x: token rows, as a :class:`~rollmath.Ragged` or padded ``[B, T]``; or one number a row, ``[N]``.
        how: what is subtracted and divided; verl's ``masked_whiten`` is the default, OpenRLHF's and NeMo-RL's
            ``Whiten(ddof=0, eps=1e-4, eps_place="max")``.
        mask: trained tokens (bool or int, nonzero = True) of token rows; the others enter no statistic and get 0.
        lengths: used columns of padded rows, ints ``[B]``.
        weights: how often each row counts in the statistics, ``[N]``: for one number a row its number of tokens, say.
            Default 1.
        valid: rows that take part (bool or int, nonzero = True), ``[N]``; the others enter no statistic and get 0.
        moments: statistics to use instead of those of ``x``: of all ranks, merged (:class:`~rollmath.ops.Moments`).
        out: where to write, of the form and float type of the result; token rows only.
        name: what your own method calls ``x``, for error messages.
        weights_name: what it calls ``weights``.
        who: its name.

    Returns:
        In the form, kind and float type of ``x``. Equal values give exactly 0, and so does a batch of one value. One
        value too few for the variance leaves the scale as it is (verl's ``masked_whiten`` raises there). Sums are taken
        row by row and rows combined in sorted order, so neither the order of the rows, nor gaps, nor a split over
        ranks with merged ``moments`` changes a bit. Token rows on a GPU are whitened there (with Triton), without
        waiting: rows are combined in their order, so that another order may change a last bit; a trained token that is
        not finite, or a weight or length on the device that is none, makes every result NaN; with given ``moments`` a
        token that is not finite stays so, and a wrong length makes its row NaN.

    Raises:
        ValueError: wrong shapes; a trained token that is not finite. (In one number a row NaN follows IEEE arithmetic,
            and one in the ``moments`` makes every result NaN, on whatever rank it was.)
        TypeError: wrong dtype or rank.

    >>> whiten([1.0, 2.0, 3.0]).round(6).tolist()
    [-1.0, 0.0, 1.0]
    """
    if not isinstance(how, Whiten):
        msg = f"{who}(): 'how' must be a Whiten, got {how!r}"
        raise TypeError(msg)
    if moments is not None and not isinstance(moments, Moments):
        msg = f"{who}(): 'moments' must be a Moments (ops.moments), got {describe(moments)}"
        raise TypeError(msg)
    if moments is not None and weights is not None:
        msg = f"{who}(): {weights_name!r} have no say where 'moments' are given"
        raise ValueError(msg)
    if rank(who, name, x) == 2:
        rows = rows_of(who, name, x, mask=mask, lengths=lengths, valid=valid)
        if isinstance(rows, DeviceRows):
            by = None if moments is None else checked(who, name, how, moments)
            return whitened_on_device(rows, name, x, how, weights=weights, weights_name=weights_name, by=by, out=out)
        (flat,) = rows.read(**{name: x})
        # Taken where they are given too: they find what is not finite.
        own = row_moments(rows, name, flat, weights, weights_name)
        m = own if moments is None else moments
        arrays, views = rows.outputs(out, flat.dtype, 1, {name: flat, "mask": rows.mask})
        affine = checked(who, name, how, m)
        _core.affine(who, name, rows.layout, flat, rows.mask, affine, views[0])
        return rows.wrap(arrays[0])
    for extra, value in (("mask", mask), ("lengths", lengths), ("out", out)):
        if value is not None:
            msg = f"{who}(): {extra!r} goes with token rows, but {name!r} has one number a row; use 'valid', 'weights'"
            raise ValueError(msg)
    values, kind = floats(who, name, x)
    keep = mask_bytes(who, "valid", valid, length=len(values), why=f"len({name})")
    m = moments if moments is not None else scalar_moments(who, values, weights, keep, weights_name)
    mean, divisor, add = checked_rows(who, name, how, m)
    result = (values.astype(np.float64) - mean) / divisor + add
    if keep is not None:
        result[keep == 0] = 0.0
    return kind.wrap(result.astype(values.dtype, copy=False))
