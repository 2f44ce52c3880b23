"""Checks that methods of this package share: scalar options, finite rows, float64 in and one rounding out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, floats, mask_bytes, number

if TYPE_CHECKING:
    from numpy.typing import NDArray


def real(who: str, name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite scalar option from ``low`` to ``high``, both included.

    Raises:
        TypeError: not a number, or a bool.
        ValueError: NaN, infinite or out of range.
    """
    if isinstance(value, bool):
        msg = f"{who}(): {name!r} must be a number, got {value}"
        raise TypeError(msg)
    x = number(who, name, value)
    if not math.isfinite(x) or not low <= x <= high:
        bounds = {
            (False, False): "finite",
            (True, False): f"finite and at least {low:g}",
            (False, True): f"finite and at most {high:g}",
            (True, True): f"between {low:g} and {high:g}",
        }[math.isfinite(low), math.isfinite(high)]
        msg = f"{who}(): {name!r} must be {bounds}, got {value}"
        raise ValueError(msg)
    return x


def flag(who: str, name: str, value: object) -> bool:
    """A bool option.

    Raises:
        TypeError: anything else; a tensor or a string would be true by accident.
    """
    if not isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be True or False, got {value!r}"
        raise TypeError(msg)
    return bool(value)


def mask(who: str, name: str, x: ArrayLike | None, length: int, why: str = "len(groups)") -> NDArray[np.bool_]:
    """An optional mask as bools, one a row; true everywhere if it is not given."""
    read = mask_bytes(who, name, x, length=length, why=why)
    return np.ones(length, dtype=bool) if read is None else read != 0


def rows(
    who: str, name: str, x: ArrayLike, length: int | None = None, why: str = "len(groups)"
) -> tuple[NDArray[np.float64], Back]:
    """One number a row as float64, and the way back to its kind and float type."""
    values, kind = floats(who, name, x, length=length, why=why)
    return values.astype(np.float64, copy=False), Back(kind, values.dtype)


def finite(who: str, name: str, x: NDArray[np.float64], seen: NDArray[np.bool_], *, must: str = "be finite") -> None:
    """Raises unless ``x`` is finite, and what ``must`` says, in the rows ``seen``."""
    good = {
        "be finite": True,
        "not be negative": x >= 0,
        "be positive": x > 0,
        "be in [0, 1]": (x >= 0) & (x <= 1),
    }[must]
    bad = np.flatnonzero(seen & ~(np.isfinite(x) & good))
    if len(bad):
        also = "" if must == "be finite" else " and be finite"
        msg = f"{who}(): {name!r} must {must}{also} where rows are valid, got {x[bad[0]]:g} at index {bad[0]}"
        raise ValueError(msg)


class Back:
    """Takes a float64 result back to the kind and float type that came in: one rounding."""

    def __init__(self, kind: Kind, dtype: Any) -> None:
        self.kind, self.dtype = kind, dtype

    def __call__(self, x: NDArray[np.float64]) -> Array:
        return self.kind.wrap(x.astype(self.dtype, copy=False))
