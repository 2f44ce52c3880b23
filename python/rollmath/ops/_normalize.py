"""``normalize``: (x - center) / scale within groups, the arithmetic of most advantage formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, mask_bytes, number
from rollmath.conventions import DEFAULT, Convention, Override, resolve
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


@dataclass(frozen=True)
class BetaPdf:
    """As a scale: the density of Beta(``alpha``, ``beta``) at the mean of the group, for numbers in [0, 1].

    0 or infinite at the ends unless both parameters are 1; the residuals of a group that is all 0 or all 1 are exactly
    0 all the same with ``center="mean"``.
    """

    alpha: float
    beta: float


Center: TypeAlias = Literal["none", "mean", "loo"] | float | Quantile | WeightedMean | LogMeanExp | ArrayLike
Scale: TypeAlias = (
    Literal["none", "std", "loo_std", "batch_std", "batch_residual_std", "mean", "bernoulli", "bernoulli_std"]
    | float
    | BetaPdf
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
    convention: Convention = DEFAULT,
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
            over all valid rows; :class:`BetaPdf`; a number; one number a row.
        valid: rows that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: how a standard deviation is taken and guarded, and what degenerate groups get
            (:class:`~rollmath.Convention`); keywords such as ``eps=`` override single fields. ``eps`` guards every
            scale but ``"none"``. ``singleton`` speaks where center or scale is taken from the group,
            ``zero_spread`` where the scale is the group's spread. A :class:`Convention` only: what a framework does
            depends on the method, and this is none.
        name: what your own method calls ``x``, for error messages.
        who: its name, likewise.
        **override: fields of the convention.

    Returns:
        One number a row, in the kind and float type of ``x``. Squares must exist in float64: values past 1e150, or
        spreads below 1e-150 with ``eps=0``, overflow or vanish.

    Raises:
        ValueError: wrong lengths; NaN or infinity under ``nan="raise"``, in ``center`` and ``scale`` too; degenerate
            groups where a policy says raise.
        TypeError: wrong dtype or rank.

    >>> normalize([1.0, 0.0, 0.0, 1.0], [7, 7, 7, 7], eps=0.0).round(6).tolist()
    [0.866025, -0.866025, -0.866025, 0.866025]
    """
    rules = resolve(who, "normalize", convention, override)
    made = as_groups(who, groups)
    values, kind = floats(who, name, x, length=len(made))
    mask = mask_bytes(who, "valid", valid, length=len(made))
    if rules.nan == "omit" and np.isnan(values).any():
        seen = ~np.isnan(values)
        mask = (seen if mask is None else seen & (mask != 0)).view(np.uint8)
    call = _Call(who, name, made, values, mask, rules)
    middle = call.center(center)
    return kind.wrap(call.run(middle, call.scale(scale, middle)))


@dataclass(frozen=True)
class _Call:
    """What :func:`normalize` hands to the core; ``center`` and ``scale`` turn options into what the core takes."""

    who: str
    name: str
    groups: Groups
    values: NDArray[Any]
    mask: NDArray[np.uint8] | None
    rules: Convention

    def run(self, center: Any, scale: Any) -> NDArray[Any]:
        return _core.normalize(self.who, self.name, self.groups._csr, self.values, self.mask, center, scale, self.rules)

    def reduce(self, what: str, parameter: float = 0.0, method: str = "linear") -> NDArray[np.float64]:
        return _core.reduce(self.who, self.name, self.groups._csr, self.values, self.mask, what, parameter, method)

    def center(self, center: Center) -> Any:
        match center:
            case Quantile(q, method):
                return ("groups", self.reduce("quantile", number(self.who, "q", q), method))
            case LogMeanExp(beta):
                return ("groups", self.reduce("logmeanexp", number(self.who, "beta", beta)))
            case WeightedMean(weights):
                return ("groups", self.weighted_mean(weights))
            case str():
                choice(self.who, "center", center, ("none", "mean", "loo"))
                return center
        return self.per_row("center", center)

    def scale(self, scale: Scale, center: Any) -> Any:
        if isinstance(scale, BetaPdf):
            return ("groups", self.beta_pdf(scale))
        if not isinstance(scale, str):
            return self.per_row("scale", scale)
        choice(self.who, "scale", scale, _SCALES)
        if scale == "mean":
            return ("groups", self.reduce("mean"))
        if scale in {"bernoulli", "bernoulli_std"}:
            p = self.probability(repr(scale))
            return ("groups", p * (1 - p) if scale == "bernoulli" else np.sqrt(p * (1 - p)))
        if scale == "batch_std":
            return self.batch_std(self.values)
        if scale == "batch_residual_std":
            # In float64: residuals that were rounded to float32 would have another spread.
            return replace(self, values=self.values.astype(np.float64)).residual_std(center)
        return scale

    def residual_std(self, center: Any) -> float:
        return self.batch_std(self.run(center, "none"))

    def probability(self, scale: str) -> NDArray[np.float64]:
        seen = self.values if self.mask is None else self.values[self.mask != 0]
        if (wrong := (seen < 0) | (seen > 1)).any():
            msg = f"{self.who}(): scale={scale} needs {self.name!r} in [0, 1], got {seen[wrong][0]}"
            raise ValueError(msg)
        return self.reduce("mean")

    def beta_pdf(self, scale: BetaPdf) -> NDArray[np.float64]:
        a, b = number(self.who, "alpha", scale.alpha), number(self.who, "beta", scale.beta)
        for name, value in (("alpha", a), ("beta", b)):
            if not 0 < value < math.inf:
                msg = f"{self.who}(): {name!r} must be positive and finite, got {value}"
                raise ValueError(msg)
        p = self.probability("BetaPdf")
        log_norm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        with np.errstate(divide="ignore", invalid="ignore"):
            # 0 log 0 is 0: a parameter of 1 has no part in the density.
            left = np.where(a == 1, 0.0, (a - 1) * np.log(p))
            right = np.where(b == 1, 0.0, (b - 1) * np.log1p(-p))
        pdf: NDArray[np.float64] = np.exp(log_norm + left + right)
        return pdf

    def weighted_mean(self, weights: ArrayLike) -> NDArray[np.float64]:
        w = floats(self.who, "weights", weights, length=len(self.groups))[0].astype(np.float64)
        if self.mask is not None:
            w[self.mask == 0] = 0.0
        csr = self.groups._csr
        mean = _core.weighted_mean(self.who, self.name, csr, self.values, w, self.mask)
        total = _core.reduce(self.who, "weights", csr, w, None, "sum")
        bad = np.flatnonzero((total == 0) & (self.reduce("count") > 0))
        if len(bad) and self.rules.nan != "propagate":
            row = self.groups.first[bad[0]]
            msg = f"{self.who}(): 'weights' must not all be 0 in a group, but are in that of row {row}"
            raise ValueError(msg)
        return mean

    def per_row(self, name: str, value: ArrayLike) -> float | NDArray[np.float64]:
        given: float | NDArray[np.float64]
        if isinstance(value, (int, float, np.integer, np.floating)):
            given = number(self.who, name, value)
            seen = np.array([given])
        else:
            given = floats(self.who, name, value, length=len(self.groups))[0].astype(np.float64, copy=False)
            seen = given if self.mask is None else given[self.mask != 0]
        if self.rules.nan != "propagate" and not np.isfinite(seen).all():
            msg = f"{self.who}(): {name!r} must be finite where rows are valid, got {seen[~np.isfinite(seen)][0]}"
            raise ValueError(msg)
        return given

    def batch_std(self, values: NDArray[Any]) -> float:
        """Standard deviation of all valid rows; 0 (so that eps alone divides) if there are too few for one."""
        mask = self.mask
        # The residual of a group of one is NaN under singleton="nan", and no part of the batch.
        seen = ~np.isnan(values) | np.isnan(self.values)
        if not seen.all():
            mask = (seen if mask is None else seen & (mask != 0)).view(np.uint8)
        batch = _core.Csr.from_ids(self.who, np.zeros(len(values), dtype=np.int64))
        variance = _core.reduce(self.who, self.name, batch, values, mask, "var", self.rules.ddof)
        n = len(values) if mask is None else np.count_nonzero(mask)
        return float(np.sqrt(variance[0])) if n > self.rules.ddof else 0.0
