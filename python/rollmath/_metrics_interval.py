"""Quantiles of Student's distribution, without SciPy."""

from __future__ import annotations

import math
from functools import cache

import numpy as np


@cache
def t_quantile(level: float, df: int) -> float:
    """``t`` with ``P(|T| < t) = level`` for Student's distribution with ``df`` degrees of freedom.

    With T = sqrt(df) tan(theta) the density becomes a power of a cosine, which Gauss-Legendre integrates to rounding.
    """
    nodes, weights = np.polynomial.legendre.leggauss(96)

    def inside(theta: float) -> float:
        angles = theta / 2 * (nodes + 1)
        return _density(df) * theta * float(np.sum(weights * np.exp((df - 1) / 2 * np.log1p(-(np.sin(angles) ** 2)))))

    # From below: the nodes do not see a narrow peak in a wide range.
    low, high = 0.0, math.atan(1 / math.sqrt(df))
    while high < math.pi / 2 and inside(high) < level:
        low, high = high, min(2 * high, math.pi / 2)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _density(df: int) -> float:
    """``gamma((df + 1) / 2) / (gamma(df / 2) sqrt(pi))``; by its series where logarithms would cancel."""
    if df <= 100:
        return math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    u = 1 / df
    series = 1 - u / 4 + u**2 / 32 + 5 * u**3 / 128 - 21 * u**4 / 2048 - 399 * u**5 / 8192
    return math.sqrt(df / 2) * series / math.sqrt(math.pi)
