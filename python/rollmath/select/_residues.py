"""How many of each class to take so that their sizes add up to a residue, at the least cost: exact."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def cheapest(residue: int, modulus: int, classes: Sequence[tuple[int, int, int]]) -> list[int]:
    """Numbers ``j_c`` with ``sum j_c size_c = residue (mod modulus)`` of least ``sum j_c cost_c``.

    Among equals, the one that takes most of the first class, then of the second. There must be a solution.

    Args:
        residue: what the sizes add up to.
        modulus: of the residue.
        classes: how many there are, their size and the cost of one, positive.
    """
    # A class of which `modulus / gcd` were taken would add nothing but its cost.
    limits = [min(n, modulus // gcd(size, modulus) - 1) for n, size, _ in classes]
    bound = 1 + sum(max(k, 1) * cost for k, (_, _, cost) in zip(limits, classes, strict=True))
    best: NDArray[np.generic] = np.full(modulus, bound, np.int64 if bound < 2**61 else object)
    best[0] = 0
    after = []
    for k, (_, size, cost) in zip(reversed(limits), reversed(classes), strict=True):
        after.append(best)
        # Every number up to k is a sum of some of 1, 2, 4, ... and a rest.
        for part in _parts(k):
            best = np.minimum(best, np.roll(best, part * size % modulus) + part * cost)
    taken = []
    for k, (_, size, cost), rest in zip(limits, classes, reversed(after), strict=True):
        j = np.arange(k + 1)
        costs = rest[(residue - j * (size % modulus)) % modulus] + j.astype(rest.dtype) * cost
        taken.append(k - int(np.argmin(costs[::-1])))
        residue = (residue - taken[-1] * size) % modulus
    return taken


def _parts(n: int) -> list[int]:
    parts, step = [], 1
    while n > 0:
        parts.append(min(step, n))
        n -= step
        step *= 2
    return parts
