"""Whole places divided in proportion to weights, exactly: largest remainders, and nobody gets more than it can fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def apportion(
    seats: NDArray[np.int64],
    group: NDArray[np.int64],
    weights: NDArray[Any],
    most: NDArray[np.int64],
    rank: NDArray[np.int64],
) -> NDArray[np.int64]:
    """How many of the places of its group each cell gets.

    A cell whose share ``places * weight / weights`` is at least what it can fill gets that; the others share the rest
    in the same way. Then each gets the whole part of its share, and the places that are left go to the largest
    remainders; among equal ones to the larger cell, then to the lower rank. Weights of 0 share, in proportion to their
    sizes, what the others cannot fill.

    Args:
        seats: places of each group, at most the sum of ``most`` over its cells.
        group: of each cell, ascending, none left out.
        weights: whole numbers, not negative; int64 or Python's, of any size.
        most: how many each cell can fill.
        rank: an order of the cells of a group.
    """
    starts = np.flatnonzero(np.diff(group, prepend=-1))

    def total(x: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(np.add.reduceat(x, starts)[group] if len(x) else x)

    free = np.ones(len(group), bool)
    while True:
        rest = seats[group] - total(np.where(free, 0, most))
        weights = np.where(free, weights, 0)
        idle = free & (total(weights) == 0)
        weights = np.where(idle, most, weights)
        weight = total(weights)
        full = free & (rest * weights >= most * weight)
        if not full.any():
            break
        free &= ~full
    weight = np.where(free, weight, 1)
    whole, left = (rest * weights // weight).astype(np.int64), rest * weights % weight
    order = _sorted(group, -left, -most, rank)
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - starts[group] if len(group) else 0
    return np.where(free, whole + (place < rest - total(whole)), most)


def _sorted(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """Cells by the first key, equal ones by the next. Where the keys fit into one number, one sort does it."""
    if any(key.dtype == object for key in keys):
        keys = tuple(np.unique(key, return_inverse=True)[1] for key in keys)
    packed, room = np.zeros(len(keys[0]), np.int64), 1
    for key in keys:
        low, high = (int(key.min()), int(key.max())) if len(key) else (0, 0)
        packed, room = packed * (high - low + 1) + (key - low), room * (high - low + 1)
    # Cells come by group, so that there is little to move.
    return np.argsort(packed, kind="stable") if room < 2**63 else np.lexsort(keys[::-1])
