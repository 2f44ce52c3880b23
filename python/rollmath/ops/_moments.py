"""Mean and variance of a batch from sums kept row by row, so that ranks can be combined without changing a bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, Immutable, check_ddof, floats, frozen, mask_bytes
from rollmath._token_rows import TokenRows, rank
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PARTS = ("weights", "means", "squares", "low", "high")


class Moments(Immutable):
    """Weight, mean and sum of squared deviations of each row, and from them those of all rows.

    Rows are combined in sorted order. So any order of the rows, and any split of them over ranks that are merged again,
    gives the same bits: ranks exchange these five numbers a row, not their means.

    Attributes:
        weights: tokens (or the sum of weights) of each row, float64 ``[rows]``; rows without weight have no part.
        means: of each row.
        squares: sum of squared deviations from the mean of the row.
        low: smallest value of each row.
        high: largest value of each row.

    >>> Moments.merge([moments([1.0, 2.0]), moments([6.0])]).mean
    3.0
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __init__(
        self, weights: ArrayLike, means: ArrayLike, squares: ArrayLike, low: ArrayLike, high: ArrayLike
    ) -> None:
        parts = {}
        for name, x in zip(_PARTS, (weights, means, squares, low, high), strict=True):
            parts[name] = floats("Moments", name, x)[0].astype(np.float64)
            if len(parts[name]) != len(parts["weights"]):
                n = len(parts["weights"])
                msg = f"Moments(): {name!r} must have length {n} (= the number of rows), got {len(parts[name])}"
                raise ValueError(msg)
        for name in ("weights", "squares"):
            if (parts[name] < 0).any():
                msg = f"Moments(): {name!r} must not be negative, got {parts[name].min()}"
                raise ValueError(msg)
        self._fill(**{name: frozen(part) for name, part in parts.items()})

    @classmethod
    def merge(cls, parts: Sequence[Moments]) -> Moments:
        """Those of all rows together, as gathered from ranks; their order does not matter."""
        if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(part, cls) for part in parts):
            msg = f"Moments.merge(): 'parts' must be a list of one Moments or more, got {parts!r}"
            raise TypeError(msg)
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in _PARTS))

    @cached_property
    def count(self) -> float:
        """Total weight: the number of tokens where the weights are counts."""
        return float(np.sum(np.sort(self.weights[self.weights > 0])))

    @cached_property
    def constant(self) -> bool:
        """True if all values are equal."""
        seen = self.weights > 0
        return bool(seen.any()) and bool(self.low[seen].min() == self.high[seen].max())

    @cached_property
    def finite(self) -> bool:
        """True if all values are; those of rows without weight do not count."""
        seen = self.weights > 0
        return bool(np.isfinite(self.low[seen]).all() and np.isfinite(self.high[seen]).all())

    @cached_property
    def mean(self) -> float:
        """Weighted mean; exactly the common value if all are equal, NaN without any weight."""
        if self.constant:
            # Zero without its sign, which would depend on the order of the rows.
            return float(self.low[self.weights > 0][0]) + 0.0
        total = self.count
        return self._sum(lambda w, m, _: w * m) / total if total else float("nan")

    def var(self, *, ddof: int = 1) -> float:
        """``sum_i w_i (x_i - mean)^2 / (count - ddof)``; exactly 0 for equal values, NaN where ``count <= ddof``."""
        ddof = check_ddof("Moments.var", ddof)
        if self.count <= ddof:
            return float("nan")
        if self.constant:
            return 0.0
        center = self.mean
        return self._sum(lambda w, m, squares: squares + w * (m - center) ** 2) / (self.count - ddof)

    def _sum(self, of: Callable[..., NDArray[np.float64]]) -> float:
        seen = self.weights > 0
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.sum(np.sort(of(self.weights[seen], self.means[seen], self.squares[seen]))))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in _PARTS)

    def __hash__(self) -> int:
        return hash((len(self), self.count))

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        return f"Moments({len(self)} rows, count {self.count:g}, mean {self.mean:g}, var {self.var():g})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Moments, tuple(getattr(self, name) for name in _PARTS)


def moments(
    x: ArrayLike | Ragged,
    *,
    weights: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> Moments:
    """``Moments`` of a batch: mean ``sum_i w_i x_i / sum_i w_i``, and the variance, kept row by row.

    Args:
        x: token rows, as a :class:`~rollmath.Ragged` or padded ``[B, T]``; or one number a row, ``[N]``.
        weights: how often each row counts, ``[N]``: for one number a row its number of tokens, say, which gives the
            statistics of the values expanded to tokens without expanding them. Default 1.
        valid: rows that take part (bool or int, nonzero = True), ``[N]``.
        mask: trained tokens (bool or int, nonzero = True) of token rows.
        lengths: used columns of padded rows, ints ``[B]``.

    Raises:
        ValueError: wrong shapes; negative or non-finite weights; a trained token that is not finite. (In one number a
            row NaN follows IEEE arithmetic.)
        TypeError: wrong dtype or rank.

    >>> m = moments([1.0, 3.0], weights=[3, 1])
    >>> m.count, m.mean, m.var(ddof=0)
    (4.0, 1.5, 0.75)
    """
    who = "moments"
    if rank(who, "x", x) == 2:
        rows = TokenRows.of(who, "x", x, mask=mask, lengths=lengths).only(valid)
        return row_moments(rows, "x", rows.read(x=x)[0], weights)
    for extra, value in (("mask", mask), ("lengths", lengths)):
        if value is not None:
            msg = f"{who}(): {extra!r} goes with token rows, but 'x' has one number a row; use 'valid' and 'weights'"
            raise ValueError(msg)
    values = floats(who, "x", x)[0]
    return scalar_moments(who, values, weights, mask_bytes(who, "valid", valid, length=len(values), why="len(x)"))


def scalar_moments(
    who: str,
    values: NDArray[Any],
    weights: ArrayLike | None,
    keep: NDArray[np.uint8] | None,
    weights_name: str = "weights",
) -> Moments:
    """Those of one number a row."""
    x = values.astype(np.float64, copy=False)
    w = weights_of(who, weights, len(x), weights_name)
    return Moments(w if keep is None else np.where(keep != 0, w, 0.0), x, np.zeros(len(x)), x, x)


def row_moments(
    rows: TokenRows, name: str, flat: NDArray[Any], weights: ArrayLike | None, weights_name: str = "weights"
) -> Moments:
    """Those of the trained tokens of rows in their flat form."""
    count, mean, squares, low, high = _core.row_moments(rows.who, name, rows.layout, flat, rows.mask)
    if weights is not None:
        w = weights_of(rows.who, weights, rows.rows, weights_name)
        count, squares = count * w, squares * w
    return Moments(count, mean, squares, low, high)


def weights_of(who: str, weights: ArrayLike | None, n: int, name: str = "weights") -> NDArray[np.float64]:
    if weights is None:
        return np.ones(n)
    w = floats(who, name, weights, length=n, why="the number of rows")[0].astype(np.float64)
    if not (np.isfinite(w) & (w >= 0)).all():
        msg = f"{who}(): {name!r} must be finite and not negative, got {w[~(np.isfinite(w) & (w >= 0))][0]}"
        raise ValueError(msg)
    return w
