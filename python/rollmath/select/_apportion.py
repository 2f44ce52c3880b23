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
    # Python's integers have no lexsort; their ranks have.
    order = np.lexsort((rank, -most, -np.unique(left, return_inverse=True)[1], group))
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - starts[group] if len(group) else 0
    return np.where(free, whole + (place < rest - total(whole)), most)
