"""What public functions ask of scalar options and of one value a row, and how a result goes back: one rounding."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, describe, floats, mask_bytes, number

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Options.


def real(
    who: str, name: str, value: object, low: float = -math.inf, high: float = math.inf, *, above: float | None = None
) -> float:
    """A finite scalar option from ``low`` to ``high``, both included, and greater than ``above``.

    Raises:
        TypeError: not a number, or a bool.
        ValueError: NaN, infinite or out of range.
    """
    if isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a number, got {value}"
        raise TypeError(msg)
    x = number(who, name, value)
    if not math.isfinite(x) or not low <= x <= high or (above is not None and x <= above):
        msg = f"{who}(): {name!r} must be {_bounds(low, high, above)}, got {value}"
        raise ValueError(msg)
    return x


def _bounds(low: float, high: float, above: float | None) -> str:
    if above is not None and math.isfinite(high):
        return f"above {above:g} and at most {high:g}"
    if above is not None:
        return "finite and positive" if above == 0 else f"finite and above {above:g}"
    if math.isfinite(low) and math.isfinite(high):
        return f"between {low:g} and {high:g}"
    if math.isfinite(low):
        return "finite and not negative" if low == 0 else f"finite and at least {low:g}"
    return f"finite and at most {high:g}" if math.isfinite(high) else "finite"


def whole(who: str, name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number of at least ``least``, and at most ``most``.

    Raises:
        TypeError: anything else than an integer; a float or a bool too.
        ValueError: too small or too large.
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        n = operator.index(value)
    except TypeError:
        msg = f"{who}(): {name!r} must be a whole number, got {describe(value)}"
        raise TypeError(msg) from None
    if n < least:
        msg = f"{who}(): {name!r} must be at least {least}, got {n}"
        raise ValueError(msg)
    if most is not None and n > most:
        msg = f"{who}(): {name!r} must be at most {most}, got {n}"
        raise ValueError(msg)
    return n


def flag(who: str, name: str, value: object) -> bool:
    """A bool option.

    Raises:
        TypeError: anything else; a tensor or a string would be true by accident.
    """
    if not isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be True or False, got {value!r}"
        raise TypeError(msg)
    return bool(value)


# One value a row.


def listed(who: str, name: str, x: Any, what: str) -> list[Any]:
    """The elements of a sequence, an array or a column of a table; ``name`` is as the message has it, quoted or not.

    Raises:
        TypeError: one thing instead of several, or things that have no order.
    """
    # Arrays and columns hold objects of their own, which their lists do not.
    read = next((r for how in ("to_pylist", "tolist", "to_list") if (r := getattr(x, how, None))), None)
    values = x if read is None else read()
    if isinstance(values, (str, bytes, bytearray, Mapping, Set)) or not hasattr(values, "__iter__"):
        msg = f"{who}(): {name} must be {what}, got {describe(x)}"
        raise TypeError(msg)
    return list(values)


def mask(who: str, name: str, x: ArrayLike | None, length: int, why: str = "len(groups)") -> NDArray[np.bool_]:
    """An optional mask as bools, one a row; true everywhere if it is not given."""
    read = mask_bytes(who, name, x, length=length, why=why)
    return np.ones(length, dtype=bool) if read is None else read != 0


def required_mask(who: str, name: str, x: ArrayLike, length: int, why: str = "len(groups)") -> NDArray[np.bool_]:
    """A mask that has no default.

    Raises:
        TypeError: None, besides what :func:`mask` refuses.
    """
    if x is None:
        msg = f"{who}(): {name!r} must be bool or integer, one a row, got None"
        raise TypeError(msg)
    return mask(who, name, x, length, why)


class Back:
    """Takes a float64 result back to the kind and float type that came in: one rounding."""

    def __init__(self, kind: Kind, dtype: Any) -> None:
        self.kind, self.dtype = kind, dtype

    def __call__(self, x: NDArray[np.float64]) -> Array:
        return self.kind.wrap(x.astype(self.dtype, copy=False))


def rows(
    who: str, name: str, x: ArrayLike, length: int | None = None, why: str = "len(groups)"
) -> tuple[NDArray[np.float64], Back]:
    """One number a row as float64, and the way back to its kind and float type."""
    values, kind = floats(who, name, x, length=length, why=why)
    return values.astype(np.float64, copy=False), Back(kind, values.dtype)


def finite(who: str, name: str, x: NDArray[np.float64], seen: NDArray[np.bool_], *, must: str = "finite") -> None:
    """Raises unless ``x`` is what ``must`` says in the rows ``seen``.

    ``"finite"``, ``"finite and not negative"``, ``"finite and positive"`` or ``"in [0, 1]"``.
    """
    good = np.isfinite(x)
    if must != "finite":
        good &= x > 0 if must == "finite and positive" else x >= 0
        if must == "in [0, 1]":
            good &= x <= 1
    bad = seen & ~good
    if bad.any():
        first = int(np.argmax(bad))
        msg = f"{who}(): {name!r} must be {must} where rows are valid, got {x[first]:g} at index {first}"
        raise ValueError(msg)


def column(
    who: str,
    name: str,
    x: ArrayLike,
    seen: NDArray[np.bool_] | None = None,
    *,
    must: str = "finite",
    why: str = "len(groups)",
) -> tuple[NDArray[np.float64], Back]:
    """:func:`rows` that are :func:`finite` where ``seen`` (None for all), and 0 in the others."""
    values, back = rows(who, name, x, None if seen is None else len(seen), why)
    there = np.ones(len(values), dtype=bool) if seen is None else seen
    finite(who, name, values, there, must=must)
    return np.where(there, values, 0.0), back


def tokens(
    who: str, name: str, x: ArrayLike | None, seen: NDArray[np.bool_], why: str = "len(groups)"
) -> NDArray[np.float64] | None:
    """How often each row counts in a statistic of the batch, 0 for rows not ``seen``; None for once each.

    Raises:
        ValueError: negative or non-finite where rows are seen, or 0 in all of them.
    """
    if x is None:
        return None
    n = column(who, name, x, seen, must="finite and not negative", why=why)[0]
    if seen.any() and not n.any():
        msg = f"{who}(): {name!r} must not all be 0 where rows are valid"
        raise ValueError(msg)
    return n


def whole_rows(who: str, name: str, x: ArrayLike, length: int, least: int, why: str) -> NDArray[np.float64]:
    """Whole numbers of at least ``least``, one a row; floats that are whole will do."""
    n = rows(who, name, x, length, why)[0]
    bad = np.flatnonzero(~(np.isfinite(n) & (n >= least) & (n == np.floor(n))))
    if len(bad):
        msg = f"{who}(): {name!r} must be whole numbers of at least {least}, got {n[bad[0]]:g} at index {bad[0]}"
        raise ValueError(msg)
    return n


def correct_rows(who: str, correct: ArrayLike | None, rewards: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The given flags, or which rewards are positive."""
    return rewards > 0 if correct is None else mask(who, "correct", correct, len(rewards), "len(rewards)")
