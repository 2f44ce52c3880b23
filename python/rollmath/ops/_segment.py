"""Segment reductions: one number a group, or one number a row from the other rows of its group.

All accumulate in float64 over the sorted members of a group, so that permuting rows changes no bit. Rows that
``valid=`` leaves out take no part. Results have one element a group, in the order of ``groups.ids``, in the kind and
float type of ``x`` (:mod:`rollmath._arrays`). NaN and infinity follow IEEE arithmetic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import (
    Array,
    ArrayLike,
    check_ddof,
    check_vector,
    choice,
    floats,
    host,
    is_tensor,
    mask_bytes,
    number,
)
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

QuantileMethod = Literal[
    "linear",
    "lower",
    "higher",
    "nearest",
    "midpoint",
    "inverted_cdf",
    "hazen",
    "weibull",
    "median_unbiased",
    "normal_unbiased",
]


def _reduce(
    who: str,
    x: ArrayLike,
    groups: Groups | ArrayLike,
    valid: ArrayLike | None,
    what: str,
    parameter: float = 0.0,
    method: str = "linear",
) -> Array:
    made = as_groups(who, groups)
    values, kind = floats(who, "x", x, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))
    out = _core.reduce(who, "x", made._csr, values, mask, what, parameter, method)
    return kind.wrap(out.astype(values.dtype, copy=False))


def segment_count(groups: Groups | ArrayLike, *, valid: ArrayLike | None = None) -> NDArray[np.int64]:
    """Number ``n`` of (valid) rows of each group, int64.

    >>> segment_count(["a", "b", "a"], valid=[True, True, False]).tolist()
    [1, 1]
    """
    made = as_groups("segment_count", groups)
    if valid is None:
        return made.counts.copy()
    return np.asarray(_reduce("segment_count", np.zeros(len(made)), made, valid, "count")).astype(np.int64)


def segment_sum(x: ArrayLike, groups: Groups | ArrayLike, *, valid: ArrayLike | None = None) -> Array:
    """``sum_i x_i`` of each group; 0 for a group without valid rows.

    >>> segment_sum([1.0, 2.0, 4.0], ["a", "b", "a"]).tolist()
    [5.0, 2.0]
    """
    return _reduce("segment_sum", x, groups, valid, "sum")


def segment_mean(x: ArrayLike, groups: Groups | ArrayLike, *, valid: ArrayLike | None = None) -> Array:
    """``sum_i x_i / n`` of each group, exactly the common value if all are equal; NaN without valid rows."""
    return _reduce("segment_mean", x, groups, valid, "mean")


def segment_var(x: ArrayLike, groups: Groups | ArrayLike, *, ddof: int = 1, valid: ArrayLike | None = None) -> Array:
    """``sum_i (x_i - mean)^2 / (n - ddof)``, two-pass; exactly 0 for equal values, NaN where ``n <= ddof``."""
    return _reduce("segment_var", x, groups, valid, "var", check_ddof("segment_var", ddof))


def segment_std(x: ArrayLike, groups: Groups | ArrayLike, *, ddof: int = 1, valid: ArrayLike | None = None) -> Array:
    """``sqrt(sum_i (x_i - mean)^2 / (n - ddof))``: the root of :func:`segment_var`, taken in float64."""
    made = as_groups("segment_std", groups)
    values, kind = floats("segment_std", "x", x, length=len(made))
    mask = mask_bytes("segment_std", "valid", valid, length=len(made))
    variance = _core.reduce("segment_std", "x", made._csr, values, mask, "var", check_ddof("segment_std", ddof))
    return kind.wrap(np.sqrt(variance).astype(values.dtype, copy=False))


def segment_min(x: ArrayLike, groups: Groups | ArrayLike, *, valid: ArrayLike | None = None) -> Array:
    """Smallest member ``min_i x_i`` of each group; NaN without valid rows."""
    return _reduce("segment_min", x, groups, valid, "min")


def segment_max(x: ArrayLike, groups: Groups | ArrayLike, *, valid: ArrayLike | None = None) -> Array:
    """Largest member ``max_i x_i`` of each group; NaN without valid rows."""
    return _reduce("segment_max", x, groups, valid, "max")


def segment_quantile(
    x: ArrayLike,
    groups: Groups | ArrayLike,
    q: float,
    *,
    method: QuantileMethod = "linear",
    valid: ArrayLike | None = None,
) -> Array:
    """Quantile ``q`` in [0, 1] of each group; NaN without valid rows.

    ``method`` has the names and formulas of :func:`numpy.quantile` (Hyndman and Fan 1996); papers that speak of a
    quantile of a few rewards mostly mean ``"inverted_cdf"``, a value that occurs.

    >>> segment_quantile([0.1, 0.2, 0.3, 0.4, 0.5], [0] * 5, 0.4, method="inverted_cdf").tolist()
    [0.2]
    """
    return _reduce("segment_quantile", x, groups, valid, "quantile", number("segment_quantile", "q", q), method)


def segment_logmeanexp(
    x: ArrayLike, groups: Groups | ArrayLike, beta: float, *, valid: ArrayLike | None = None
) -> Array:
    """``log(mean_i exp(beta x_i)) / beta`` of each group, without overflow; NaN without valid rows.

    ``beta`` is the inverse temperature (finite, not 0): the maximum for large ``beta``, the mean as it goes to 0.
    """
    return _reduce("segment_logmeanexp", x, groups, valid, "logmeanexp", number("segment_logmeanexp", "beta", beta))


def segment_weighted_mean(
    x: ArrayLike, groups: Groups | ArrayLike, weights: ArrayLike, *, valid: ArrayLike | None = None
) -> Array:
    """``sum_i w_i x_i / sum_i w_i`` of each group, weights finite and not negative; NaN where they sum to 0."""
    who = "segment_weighted_mean"
    made = as_groups(who, groups)
    values, kind = floats(who, "x", x, length=len(made))
    w, _ = floats(who, "weights", weights, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))
    out = _core.weighted_mean(who, "x", made._csr, values, w.astype(np.float64, copy=False), mask)
    return kind.wrap(out.astype(values.dtype, copy=False))


def loo_mean(
    x: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    valid: ArrayLike | None = None,
    singleton: Literal["nan", "zero"] = "nan",
) -> Array:
    """Mean of the *other* valid rows of each row's group: ``(sum_j x_j - x_i) / (n - 1)``, one number a row.

    The only valid row of a group has no others: NaN, or 0 with ``singleton="zero"``. A row that is not valid gets the
    mean of all valid rows, none of which it is.

    >>> loo_mean([1.0, 0.0, 0.0, 5.0], ["a", "a", "a", "b"]).tolist()
    [0.0, 0.5, 0.5, nan]
    """
    who = "loo_mean"
    choice(who, "singleton", singleton, ("nan", "zero"))
    made = as_groups(who, groups)
    values, kind = floats(who, "x", x, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))
    out = _core.loo_mean(who, "x", made._csr, values, mask)
    if singleton == "zero":
        member = np.ones(len(made)) if mask is None else (mask != 0).astype(np.float64)
        out[_core.reduce(who, "x", made._csr, member, None, "sum")[made.index] <= member] = 0.0
    return kind.wrap(out.astype(values.dtype, copy=False))


def gather(per_group: ArrayLike, groups: Groups | ArrayLike) -> Array:
    """One value a row from one value a group, ``per_group[groups.index]``, of the same dtype (nothing is computed).

    A tensor stays on its device.
    """
    made = as_groups("gather", groups)
    values, kind = host("gather", "per_group", per_group)
    check_vector("gather", "per_group", values, made.n_groups, "n_groups")
    if is_tensor(per_group):
        return per_group[kind.wrap(made.index.copy())]
    out: NDArray[Any] = values[made.index]
    return out
