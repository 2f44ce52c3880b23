"""``normalize``: (x - center) / scale within groups, the arithmetic of most advantage formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, mask_bytes, number
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops._segment import QuantileMethod

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantile:
    """As a center: the quantile ``q`` of the group (see :func:`rollmath.ops.segment_quantile`)."""

    q: float
    method: QuantileMethod = "linear"


@dataclass(frozen=True)
class WeightedMean:
    """As a center: the mean of the group with these weights (one a row, finite, not negative)."""

    weights: ArrayLike


@dataclass(frozen=True)
class LogMeanExp:
    """As a center: the soft value ``log(mean(exp(beta x))) / beta`` of the group."""

    beta: float


Center: TypeAlias = Literal["none", "mean", "loo"] | float | Quantile | WeightedMean | LogMeanExp | ArrayLike
Scale: TypeAlias = (
    Literal["none", "std", "loo_std", "batch_std", "batch_residual_std", "mean", "bernoulli", "bernoulli_std"]
    | float
    | ArrayLike
)
_SCALES = ("none", "std", "loo_std", "batch_std", "batch_residual_std", "mean", "bernoulli", "bernoulli_std")


def normalize(
    x: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    center: Center = "mean",
    scale: Scale = "std",
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    name: str = "x",
    who: str = "normalize",
    **override: Unpack[Override],
) -> Array:
    """``(x_i - c_i) / d(s_i)`` for each row ``i``, with the group's center ``c`` and scale ``s``.

    Args:
        x: one number a row.
        groups: a :class:`~rollmath.Groups` or raw ids.
        center: ``"none"`` 0; ``"mean"`` the group's mean; ``"loo"`` the mean of the other rows of the group; a number;
            one number a row; :class:`Quantile`, :class:`WeightedMean` or :class:`LogMeanExp`.
        scale: ``"none"`` 1; ``"std"`` the group's standard deviation; ``"loo_std"`` that of the other rows; ``"mean"``
            the group's mean m; ``"bernoulli"`` m (1 - m) and ``"bernoulli_std"`` its root, for 0/1 rewards;
            ``"batch_std"`` the standard deviation of all valid rows; ``"batch_residual_std"`` that of ``x - center``
            over all valid rows; a number; one number a row.
        valid: rows that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: how a standard deviation is taken and guarded, and what degenerate groups get
            (:class:`~rollmath.Convention`); keywords such as ``eps=`` override single fields. ``eps`` guards every
            scale but ``"none"``. ``singleton`` speaks where center or scale is taken from the group,
            ``zero_spread`` where the scale is the group's spread.
        name: what the caller calls ``x``, for error messages.
        who: the caller's name, likewise.
        **override: fields of the convention.

    Returns:
        One number a row, in the kind and float type of ``x``.

    Raises:
        ValueError: wrong lengths; NaN or infinity under ``nan="raise"``; degenerate groups where a policy says raise.
        TypeError: wrong dtype or rank.

    >>> normalize([1.0, 0.0, 0.0, 1.0], [7, 7, 7, 7], eps=0.0).round(6).tolist()
    [0.866025, -0.866025, -0.866025, 0.866025]
    """
    rules = resolve(who, "normalize", convention, override)
    made = as_groups(who, groups)
    values, kind = floats(who, name, x, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))

    def reduce(what: str, parameter: float = 0.0, method: str = "linear") -> NDArray[np.float64]:
        return _core.reduce(who, name, made._csr, values, mask, what, parameter, method)

    def run(center: Any, scale: Any) -> NDArray[Any]:
        return _core.normalize(who, name, made._csr, values, mask, center, scale, rules)

    match center:
        case Quantile(q, method):
            center = ("groups", reduce("quantile", number(who, "q", q), method))
        case LogMeanExp(beta):
            center = ("groups", reduce("logmeanexp", number(who, "beta", beta)))
        case WeightedMean(weights):
            w = floats(who, "weights", weights, length=len(made))[0].astype(np.float64, copy=False)
            center = ("groups", _core.weighted_mean(who, name, made._csr, values, w, mask))
        case str():
            choice(who, "center", center, ("none", "mean", "loo"))
        case _:
            center = _per_row(who, "center", center, len(made))

    if isinstance(scale, str):
        choice(who, "scale", scale, _SCALES)
        if scale == "mean":
            scale = ("groups", reduce("mean"))
        elif scale in {"bernoulli", "bernoulli_std"}:
            p = reduce("mean")
            scale = ("groups", p * (1 - p) if scale == "bernoulli" else np.sqrt(np.maximum(p * (1 - p), 0.0)))
        elif scale == "batch_std":
            scale = _batch_std(who, values, mask, rules)
        elif scale == "batch_residual_std":
            scale = _batch_std(who, run(center, "none"), mask, rules)
    else:
        scale = _per_row(who, "scale", scale, len(made))
    return kind.wrap(run(center, scale))


def _per_row(who: str, name: str, value: ArrayLike, length: int) -> float | NDArray[np.float64]:
    if isinstance(value, (int, float, np.number)):
        return float(value)
    return floats(who, name, value, length=length)[0].astype(np.float64, copy=False)


def _batch_std(who: str, values: NDArray[Any], mask: NDArray[np.uint8] | None, rules: Convention) -> float:
    """Standard deviation of all valid rows; 0 (so that eps alone divides) if there are too few for one."""
    if rules.nan != "propagate":
        # NaN is a missing value here, or the residual of a group of one under singleton="nan".
        seen = ~np.isnan(values)
        mask = (seen if mask is None else seen & (mask != 0)).view(np.uint8)
    everything = _core.Csr.from_ids(who, np.zeros(len(values), dtype=np.int64))
    variance = _core.reduce(who, "x", everything, values, mask, "var", rules.ddof)
    n = len(values) if mask is None else np.count_nonzero(mask)
    return float(np.sqrt(variance[0])) if n > rules.ddof else 0.0
