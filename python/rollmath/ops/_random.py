"""Random choices from an explicit seed: the same on every platform and with every version of NumPy.

Only the raw words of PCG64 are used, which NumPy promises not to change; what its ``Generator`` makes of them may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._checks import whole

if TYPE_CHECKING:
    from numpy.typing import NDArray


def generator(who: str, seed: object) -> np.random.PCG64:
    """The words that ``seed`` stands for."""
    return np.random.PCG64(whole(who, "seed", seed, least=0))


def uniform(bits: np.random.PCG64, n: int) -> NDArray[np.float64]:
    """``n`` numbers in [0, 1), multiples of 2^-53."""
    words: NDArray[np.uint64] = bits.random_raw(n)
    out = (words >> np.uint64(11)).astype(np.float64)
    out *= 2.0**-53
    return out


def permutation(bits: np.random.PCG64, n: int) -> NDArray[np.int64]:
    """A random order of ``n`` rows.

    Each row draws a word, and its own number takes the place of the low bits: no two are equal, so that any algorithm
    sorts them alike, and the order can be read off.
    """
    low = np.uint64((1 << max(n - 1, 0).bit_length()) - 1)
    words = (bits.random_raw(n) & ~low) | np.arange(n, dtype=np.uint64)
    words.sort()
    return (words & low).astype(np.int64)


def ranks(order: NDArray[np.int64], index: NDArray[np.int64], n_groups: int) -> NDArray[np.int64]:
    """Which member of its group each row is, from 0, if rows come in this order; ``index`` has their groups."""
    # Sixteen bits are sorted by counting.
    key = index.astype(np.uint16) if n_groups <= 1 << 16 else index
    by_group = order[np.argsort(key[order], kind="stable")]
    counts = np.bincount(index, minlength=n_groups)
    out = np.empty(len(index), np.int64)
    out[by_group] = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
    return out
