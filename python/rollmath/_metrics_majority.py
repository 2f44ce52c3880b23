"""The expected score of a majority vote: an exact dynamic program over the counts of the answers.

The counts of ``k`` draws without replacement are multivariate hypergeometric. They are also independent binomials with
``p = k / n`` given that they sum to ``k``; with replacement, independent Poissons with mean ``k m / n``. In this form
every weight is a probability: nothing overflows, and no weight is negative.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Groups whose tables are worked on at once, so that they stay in the cache.
_CHUNK = 64


def plurality(
    n: NDArray[np.int64],
    owner: NDArray[np.int64],
    votes: NDArray[np.int64],
    worth: NDArray[np.float64],
    k: int,
    *,
    replacement: bool,
    split: bool,
) -> NDArray[np.float64]:
    """Expected score of the most frequent answer of ``k`` draws, one number a group.

    ``n`` is the number of samples of each group. Each answer has the group that it belongs to (``owner``), its number
    of samples (``votes``) and its score (``worth``). Groups that are too small get NaN.
    """
    out = np.full(len(n), np.nan)
    # Most frequent first; a fixed order of equal counts, so that the order of the samples changes no bit.
    given = np.flatnonzero(votes)
    given = given[np.lexsort((worth[given], -votes[given], owner[given]))]
    answers = np.bincount(owner[given], minlength=len(n))
    place = np.arange(len(given)) - np.repeat(np.cumsum(answers) - answers, answers)
    for size in np.unique(n[n >= (1 if replacement else k)]).tolist():
        table = _poisson(size, k) if replacement else _binomial(size, k)
        same = np.flatnonzero(n == size)
        for start in range(0, len(same), _CHUNK):
            chunk = same[start : start + _CHUNK]
            row = np.full(len(n), -1)
            row[chunk] = np.arange(len(chunk))
            of = row[owner[given]]
            inside = of >= 0
            counts = np.zeros((len(chunk), answers[chunk].max()), dtype=np.int64)
            scores = np.zeros(counts.shape)
            counts[of[inside], place[inside]] = votes[given[inside]]
            scores[of[inside], place[inside]] = worth[given[inside]]
            reach = np.where(counts > 0, k, 0) if replacement else counts
            out[chunk] = _expected(counts, reach, scores, table, split) / table[size, k]
            if split:
                low = np.where(counts > 0, scores, np.inf).min(axis=1)
                high = np.where(counts > 0, scores, -np.inf).max(axis=1)
                out[chunk] = np.where(low == high, low, out[chunk])
    return out


def _expected(
    counts: NDArray[np.int64],
    reach: NDArray[np.int64],
    scores: NDArray[np.float64],
    table: NDArray[np.float64],
    split: bool,
) -> NDArray[np.float64]:
    """Sum over the winning count ``s``, the answers that reach it (tied) and all ways to stay below it.

    ``reach`` is how often each answer can be drawn.
    """
    k = table.shape[1] - 1
    total = np.zeros(len(counts))
    for s in range(1, min(k, int(reach.max())) + 1):
        on = np.flatnonzero(reach[:, 0] >= s)
        able = reach[on] >= s
        most = int(able.sum(axis=1).max())
        # [group, tied answers, draws]: probability, and probability times the sum of the tied scores. Answers that
        # cannot reach s are one pool.
        ways = np.zeros((len(on), min(most, k // s if split else 1) + 1, k + 1))
        ways[:, 0] = table[np.where(able, 0, counts[on]).sum(axis=1)]
        sums = np.zeros_like(ways)
        for rank in range(most):
            here = able[:, rank]
            weight = table[counts[on[here], rank], : s + 1, None, None]
            ways[here], sums[here] = _add(ways[here], sums[here], weight, scores[on[here], rank, None, None])
        tied = np.arange(1, ways.shape[1])
        total[on] += (sums[:, 1:, k] / tied).sum(axis=1) if len(tied) > 1 else sums[:, 1, k]
    return total


def _add(
    ways: NDArray[np.float64], sums: NDArray[np.float64], weight: NDArray[np.float64], score: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One more answer, drawn ``j < s`` times or, tied, ``s`` times."""
    s, k = weight.shape[1] - 1, ways.shape[2] - 1
    more, most = ways * weight[:, 0], sums * weight[:, 0]
    for j in range(1, s):
        more[:, :, j:] += weight[:, j] * ways[:, :, : k + 1 - j]
        most[:, :, j:] += weight[:, j] * sums[:, :, : k + 1 - j]
    before = ways[:, :-1, : k + 1 - s]
    more[:, 1:, s:] += weight[:, s] * before
    most[:, 1:, s:] += weight[:, s] * (sums[:, :-1, : k + 1 - s] + score * before)
    return more, most


def _binomial(n: int, k: int) -> NDArray[np.float64]:
    """Row ``m``: probabilities of 0 .. k successes in ``m`` trials of probability ``k / n``."""
    table = np.zeros((n + 1, k + 1))
    if n == k:
        np.fill_diagonal(table, 1.0)
        return table
    odds = k / (n - k)
    for m in range(n + 1):
        mode = (m + 1) * k // n
        # Ratios away from the mode, so that nothing underflows but what is small.
        up = np.arange(mode, m)
        down = np.arange(mode, 0, -1)
        rising = np.cumprod((m - up) / (up + 1) * odds)
        falling = np.cumprod(down / (m - down + 1) / odds)
        row = np.concatenate([falling[::-1], [1.0], rising])
        row /= row.sum()
        table[m, : m + 1] = row[: k + 1]
    return table


def _poisson(n: int, k: int) -> NDArray[np.float64]:
    """Row ``m``: probabilities of 0 .. k events at rate ``k m / n``."""
    table = np.zeros((n + 1, k + 1))
    table[0, 0] = 1.0
    rate = k * np.arange(1, n + 1)[:, None] / n
    j = np.arange(k + 1)
    table[1:] = np.exp(j * np.log(rate) - rate - np.array([math.lgamma(i + 1) for i in range(k + 1)]))
    return table
