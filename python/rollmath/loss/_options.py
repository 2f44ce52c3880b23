"""Options of objectives and terms, checked and turned into floats."""

from __future__ import annotations

import math

from rollmath._checks import real


def bounds_of(who: str, name: str, value: object) -> tuple[float, float]:
    """A clip ``(lo, hi)``, or one number for both: ``lo`` in [0, 1], ``hi`` at least 0, maybe infinite.

    Raises:
        ValueError: not two, or out of range.
        TypeError: not numbers.
    """
    lo, hi = pair_of(who, name, value)
    if not (0 <= lo <= 1 and hi >= 0):
        msg = f"{who}(): {name!r} must be (lo, hi) with lo in [0, 1] and hi of at least 0, got {value!r}"
        raise ValueError(msg)
    return lo, hi


def thresholds_of(who: str, name: str, value: object) -> tuple[float, float]:
    """Thresholds ``(lo, hi)`` in opposite directions, or one number for both: at least 0, maybe infinite.

    Raises:
        ValueError: not two, or negative.
        TypeError: not numbers.
    """
    lo, hi = pair_of(who, name, value)
    if not (lo >= 0 and hi >= 0):
        msg = f"{who}(): {name!r} must be (lo, hi) of at least 0 each, got {value!r}"
        raise ValueError(msg)
    return lo, hi


def interval_of(who: str, name: str, value: object) -> tuple[float, float]:
    """An interval ``(low, high)`` of ratios: ``0 <= low <= high``, the latter maybe infinite.

    Raises:
        ValueError: not two, negative, or in the wrong order.
        TypeError: not numbers.
    """
    if isinstance(value, (tuple, list)):
        low, high = pair_of(who, name, value)
        if 0 <= low <= high and low < math.inf:
            return low, high
    else:
        real(who, name, value)
    msg = f"{who}(): {name!r} must be (low, high) with 0 <= low <= high, got {value!r}"
    raise ValueError(msg)


def open_interval_of(who: str, name: str, value: object) -> tuple[float, float]:
    """An interval ``(lo, hi)`` with ``lo < hi``; ``hi`` may be infinite.

    Raises:
        ValueError: not two, or not in order.
        TypeError: not numbers.
    """
    lo, hi = pair_of(who, name, value)
    if not lo < hi:
        msg = f"{who}(): {name!r} must be (lo, hi) with lo < hi, got {value!r}"
        raise ValueError(msg)
    return lo, hi


def pair_of(who: str, name: str, value: object) -> tuple[float, float]:
    """Two numbers, or one for both; finite or plus infinity.

    Raises:
        ValueError: not two.
        TypeError: not numbers.
    """
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        msg = f"{who}(): {name!r} must be one number or (lo, hi), got {value!r}"
        raise ValueError(msg)
    try:
        lo, hi = (math.inf if x == math.inf else real(who, name, x) for x in pair)
    except TypeError:
        msg = f"{who}(): {name!r} must hold numbers, got {value!r}"
        raise TypeError(msg) from None
    return lo, hi


def over(who: str, name: str, value: float | None, low: float) -> float | None:
    """None, or a finite number greater than ``low``.

    Raises:
        ValueError: NaN, infinite or out of range.
        TypeError: not a number.
    """
    return None if value is None else real(who, name, value, above=low)
