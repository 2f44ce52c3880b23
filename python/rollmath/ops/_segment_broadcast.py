"""``segment_broadcast``: a number of each group, given back to its rows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, mask_bytes
from rollmath._checks import column
from rollmath.groups import Groups, as_groups

Broadcast = Literal["mean", "sum", "max", "min", "median"]


def segment_broadcast(
    x: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    how: Broadcast = "mean",
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
) -> Array:
    """The mean, sum, maximum, minimum or median of each row's group: ``y_i = how({x_j: j in the group of i})``.

    Args:
        x: one number a row.
        groups: a :class:`~rollmath.Groups` or raw ids.
        how: ``"mean"``, ``"sum"``, ``"max"``, ``"min"`` or ``"median"`` (of an even number the mean of the middle two).
        weights: what each row counts, finite and not negative; for ``"mean"`` ``sum_j w_j x_j / sum_j w_j``, for
            ``"sum"`` ``sum_j w_j x_j``, for the others an error.
        valid: rows that take part (bool or int, nonzero = True). The others get the number of their group, too.

    Returns:
        One number a row, in the kind and float type of ``x``. Without ``weights`` and ``valid`` the mean keeps the sum
        over the rows. All but the sum change nothing the second time. Without valid rows, or where weights sum to 0,
        NaN; a sum is 0. NaN and infinity follow IEEE arithmetic.

    Raises:
        ValueError: wrong lengths; weights that are negative or not finite, or given for ``"max"``, ``"min"`` or
            ``"median"``; tensors that require grad.
        TypeError: wrong dtype or rank.

    >>> segment_broadcast([1.0, 5.0, 2.0], ["a", "b", "a"]).tolist()
    [1.5, 5.0, 1.5]
    >>> segment_broadcast([1.0, 5.0, 2.0], ["a", "b", "a"], weights=[3.0, 1.0, 1.0]).tolist()
    [1.25, 5.0, 1.25]
    """
    who = "segment_broadcast"
    choice(who, "how", how, ("mean", "sum", "max", "min", "median"))
    made = as_groups(who, groups)
    values, kind = floats(who, "x", x, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))
    if weights is None:
        what, q = ("quantile", 0.5) if how == "median" else (how, 0.0)
        out = _core.reduce(who, "x", made._csr, values, mask, what, q)
        return kind.wrap(out[made.index].astype(values.dtype, copy=False))
    if how not in ("mean", "sum"):
        msg = f"{who}(): 'weights' must be None for how={how!r}, which does not weigh; leave rows out with 'valid'"
        raise ValueError(msg)
    seen = np.ones(len(made), bool) if mask is None else mask != 0
    w, _ = column(who, "weights", weights, seen, must="finite and not negative")
    if how == "mean":
        out = _core.weighted_mean(who, "x", made._csr, values, w, mask)
    else:
        # A weight of zero takes its row out, also where the value is not finite.
        part = np.multiply(values, w, out=np.zeros(len(made)), where=w > 0)
        out = _core.reduce(who, "x", made._csr, part, mask, "sum")
    return kind.wrap(out[made.index].astype(values.dtype, copy=False))
