"""Sets of trajectories to compare with one another."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import whole
from rollmath.groups import Groups, as_groups
from rollmath.ops._random import generator, permutation, ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Numbers in all combinations together.
_MOST = 1 << 24


def trajectory_sets(
    states: Groups | ArrayLike, *, size: int = 4, count: int | None = None, seed: int | None = None
) -> NDArray[np.int64]:
    """Sets of ``size`` trajectories from the same state: all ``C(N, size)`` of them, or ``count`` random ones a state.

    Args:
        states: state from which each trajectory was sampled, one id each, ``[N]``, or :class:`~rollmath.Groups`.
        size: members of a set (4 in the paper, out of 8).
        count: sets of each state, drawn independently (a set may come twice). None for all combinations.
        seed: whole number of at least 0, which goes with ``count``; another in every step.

    Returns:
        int64 ``[M, size]``: numbers of trajectories, ascending in each set; the sets of one state after those of
        another, in the order of ``states.ids``. A state with fewer than ``size`` trajectories has none.

    Raises:
        ValueError: ``size`` or ``count`` below 1, a seed without ``count`` or the reverse, or a negative one; more than
            some ten million numbers without ``count``.
        TypeError: wrong dtype or rank.

    Source: polychromic objectives, arXiv 2509.25424; see :func:`rollmath.tree.polychromic`.

    >>> trajectory_sets(["a", "a", "b", "a"], size=2).tolist()
    [[0, 1], [0, 3], [1, 3]]
    >>> trajectory_sets(["a", "a", "b", "a"], size=2, count=2, seed=0).tolist()
    [[1, 3], [0, 1]]
    """
    who = "trajectory_sets"
    made = as_groups(who, states, name="states")
    n = whole(who, "size", size)
    if (count is None) != (seed is None):
        msg = f"{who}(): 'seed' goes with 'count', got count={count} and seed={seed}"
        raise ValueError(msg)
    large = np.flatnonzero(made.counts >= n)
    if count is not None:
        times, bits = whole(who, "count", count), generator(who, seed)
        # Each state as often as it has sets; of every copy, the first few of a random order.
        copies = np.repeat(large, times)
        counts = made.counts[copies]
        number = np.repeat(np.arange(len(copies)), counts)
        shift = made.offsets[copies] - (np.cumsum(counts) - counts)
        chosen = ranks(permutation(bits, len(number)), number, len(copies)) < n
        drawn: NDArray[np.int64] = made.order[(np.arange(len(number)) + shift[number])[chosen]].reshape(-1, n)
        return drawn
    if (total := sum(math.comb(m, n) for m in made.counts[large].tolist())) * n > _MOST:
        msg = f"{who}(): 'size' makes {total} sets, too many to list; choose count= and seed="
        raise ValueError(msg)
    which = {m: np.array(list(combinations(range(m), n))) for m in set(made.counts[large].tolist())}
    parts = [made.rows(g)[which[int(made.counts[g])]] for g in large.tolist()]
    return np.concatenate([np.zeros((0, n), np.int64), *parts])
