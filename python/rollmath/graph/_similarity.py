"""How similar texts are, block by block of pairs, and the clusters that similar texts make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Texts of a block: with n texts no array is larger than this times n.
BLOCK = 64
#: Characters are counted in so many bins. Characters that share a bin make the bound looser, never wrong.
BINS = 32
#: From this share of pairs worth comparing, a whole rectangle costs less than its pairs one by one.
DENSE = 0.5
#: Pairs that are worth a thread.
SHARE = 512


def rapidfuzz(who: str) -> tuple[Any, Any]:
    """What compares strings: ``rapidfuzz.process`` and ``rapidfuzz.distance.Indel``.

    Raises:
        ModuleNotFoundError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz import process  # noqa: PLC0415
        from rapidfuzz.distance import Indel  # noqa: PLC0415
    except ModuleNotFoundError:
        msg = f"{who}() needs rapidfuzz: install rollmath with its 'similarity' extra"
        raise ModuleNotFoundError(msg, name="rapidfuzz") from None
    return process, Indel


class Texts:
    """Distinct texts, of which the first are the first to lead."""

    def __init__(self, tools: tuple[Any, Any], texts: Sequence[str], threshold: float) -> None:
        self.process, self.indel = tools
        self.threshold = threshold
        self.lengths = np.array([len(t) for t in texts])
        # What all texts begin and end with adds nothing to a distance.
        head = _common(texts)
        tail = _common([t[head:][::-1] for t in texts])
        self.texts = [t[head : len(t) - tail] for t in texts]
        self.rest = self.lengths - head - tail
        # Small numbers, bin by bin, because the bound on a distance reads nothing else.
        counts = np.stack([_counts(t) for t in self.texts], axis=1)
        self.counts = counts.astype(np.uint16 if self.rest.max() < 2**16 else np.int64)

    def __len__(self) -> int:
        return len(self.texts)

    def ratios(self, rows: NDArray[np.int64], columns: NDArray[np.int64], floor: Any = -1.0) -> NDArray[np.float64]:
        """Ratio of each pair of two texts, -1 below the threshold; those not above ``floor`` may get -1, too."""
        # At least 1, for an empty text beside itself.
        total = np.maximum(self.lengths[rows][:, None] + self.lengths[columns], 1)
        # No common subsequence has a character more often than both texts do.
        shared = np.zeros(total.shape, self.counts.dtype)
        for count in self.counts:
            shared += np.minimum(count[rows][:, None], count[columns])
        least = self.rest[rows][:, None] + self.rest[columns] - 2 * shared.astype(np.int64)
        most = (total - least) / total
        possible = (most >= self.threshold) & (most > floor) & (rows[:, None] != columns)
        out = np.full(total.shape, -1.0)
        if possible.any():
            total = total[possible]
            limit = int((1 - self.threshold) * total.max()) + 1
            # From whole numbers by one division, so that a ratio of exactly the threshold is not lost.
            ratio = (total - self._distances(rows, columns, possible, limit)) / total
            out[possible] = np.where(ratio >= self.threshold, ratio, -1.0)
        return out

    def _distances(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], possible: NDArray[np.bool_], limit: int
    ) -> NDArray[np.int64]:
        """Indel distance of the possible pairs, row by row; past ``limit`` any number greater than it."""
        up, across = np.flatnonzero(possible.any(1)), np.flatnonzero(possible.any(0))
        pairs = np.count_nonzero(possible)
        options: dict[str, Any] = {"scorer": self.indel.distance, "score_cutoff": limit, "dtype": np.int64}
        options["workers"] = max(1, min(_core.num_threads(), pairs // SHARE))
        if pairs < DENSE * len(up) * len(across):
            i, j = np.nonzero(possible)
            distance = self.process.cpdist(self._some(rows[i]), self._some(columns[j]), **options)
            return np.asarray(distance, np.int64)
        # The long side in front, because threads share out its texts. A square costs half if both sides are one list.
        long = self._some(columns[across])
        short = long if np.array_equal(rows[up], columns[across]) else self._some(rows[up])
        table = np.asarray(self.process.cdist(long, short, **options), np.int64)
        return table.T[possible[np.ix_(up, across)]]

    def _some(self, which: NDArray[np.int64]) -> list[str]:
        return [self.texts[k] for k in which.tolist()]


def _common(texts: Sequence[str]) -> int:
    """Length of what all texts begin with: no two of them differ sooner than the first and last in order."""
    return len(os.path.commonprefix([min(texts), max(texts)]))  # noqa: RUF071 - characters are what is meant


def _counts(text: str) -> NDArray[np.int64]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.bincount(codes % BINS, minlength=BINS)


def clusters(tools: tuple[Any, Any], texts: Sequence[str], threshold: float, linkage: str) -> NDArray[np.int64]:
    """Who leads each of the distinct texts of a task, given in the order in which they are to lead."""
    if len(texts) < 2:
        return np.zeros(len(texts), np.int64)
    return (leaders if linkage == "leader" else components)(Texts(tools, texts, threshold))


def leaders(texts: Texts) -> NDArray[np.int64]:
    """The leader of each text: a text leads if no leader before it is near; others follow the most similar leader."""
    n = len(texts)
    out, best, leads = np.arange(n), np.full(n, -1.0), np.zeros(n, bool)
    for start in range(0, n, BLOCK):
        block = start + np.flatnonzero(best[start : start + BLOCK] < 0)
        near = texts.ratios(block, block)
        keep = _apart(near >= 0)
        new, inside = block[keep], block[~keep]
        leads[new] = True
        outside = np.setdiff1d(np.flatnonzero(~leads), inside)
        for others in (inside, outside):
            if len(new) and len(others):
                ratio = near[keep][:, ~keep] if others is inside else texts.ratios(new, others, best[others])
                # The first of the greatest: ties go to the leader that comes first.
                at, top = ratio.argmax(0), ratio.max(0)
                closer = top > best[others]
                best[others[closer]], out[others[closer]] = top[closer], new[at[closer]]
    return out


def _apart(near: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rows that are near to no earlier row that is kept."""
    keep = np.ones(len(near), bool)
    for i in range(len(near)):
        if keep[i]:
            keep[i + 1 :] &= ~near[i, i + 1 :]
    return keep


def components(texts: Texts) -> NDArray[np.int64]:
    """The first text of the component of each text, where near texts are joined."""
    n = len(texts)
    first = np.arange(n)
    for start in range(0, n, BLOCK):
        block, later = np.arange(start, min(start + BLOCK, n)), np.arange(min(start + BLOCK, n), n)
        for columns in (block, later):
            joined = first[block][:, None] == first[columns]
            near = texts.ratios(block, columns, np.where(joined, 1.0, -1.0)) >= 0
            i, j = np.nonzero(near)
            first = _joined(first, block[i], columns[j])
    return first


def _joined(first: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """The components after each ``a`` was joined with its ``b``; a component is named by its first member."""
    while True:
        low, high = np.minimum(first[a], first[b]), np.maximum(first[a], first[b])
        if np.array_equal(low, high):
            return first
        to = np.arange(len(first))
        np.minimum.at(to, high, low)
        while not np.array_equal(to, to[to]):
            to = to[to]
        first = to[first]
