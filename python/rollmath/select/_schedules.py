"""Schedules over training: an option that moves from one number to another. Plain numbers, no arrays."""

from __future__ import annotations

import math

from rollmath._checks import real


def linear_schedule(progress: float, *, start: float, end: float) -> float:
    """``(1 - progress) start + progress end``: D3S lets the rollouts and tokens that it keeps grow so.

    Args:
        progress: how far training is, in [0, 1]: ``step / total``.
        start: value at 0.
        end: value at 1.

    Returns:
        A float: exactly ``start`` and ``end`` at the ends, never beyond them, and monotone to the last bit.

    Raises:
        ValueError: ``progress`` outside [0, 1], numbers that are not finite.
        TypeError: no numbers.

    Source: D3S, arXiv 2509.22115, from a secondary description; its four numbers are unverified.

    >>> [round(linear_schedule(step / 100, start=16, end=64)) for step in (0, 25, 100)]
    [16, 28, 64]
    """
    who = "linear_schedule"
    at, a, b = real(who, "progress", progress, 0.0, 1.0), real(who, "start", start), real(who, "end", end)
    return _between(at, a, b)


def cosine_schedule(progress: float, *, start: float, end: float) -> float:
    """``end + (start - end) (1 + cos(pi progress)) / 2``: slow at both ends, steepest in the middle.

    Args:
        progress: how far training is, in [0, 1]: ``step / total``.
        start: value at 0.
        end: value at 1.

    Returns:
        A float: exactly ``start`` and ``end`` at the ends, never beyond them, and monotone.

    Raises:
        ValueError: ``progress`` outside [0, 1], numbers that are not finite.
        TypeError: no numbers.

    Source: cosine annealing, arXiv 1608.03983: textbook.

    >>> [round(cosine_schedule(step / 4, start=1.0, end=0.0), 4) for step in range(5)]
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    """
    who = "cosine_schedule"
    at, a, b = real(who, "progress", progress, 0.0, 1.0), real(who, "start", start), real(who, "end", end)
    return _between(0.5 * (1.0 - math.cos(math.pi * at)), a, b)


def _between(share: float, a: float, b: float) -> float:
    if (a <= 0.0 <= b) or (b <= 0.0 <= a):
        # Two terms that rise or fall together.
        return (1.0 - share) * a + share * b
    if share == 1.0:
        return b
    x = a + share * (b - a)
    return min(x, b) if b > a else max(x, b)
