"""Random orders by definition: sort rows by their words, whose low bits are the row's number."""

import numpy as np


def words(bits, n):
    return [int(w) for w in bits.random_raw(n)]


def permutation(bits, n):
    """Of the next ``n`` words of a PCG64."""
    low = (1 << max(n - 1, 0).bit_length()) - 1
    return sorted(range(n), key=[w & ~low | i for i, w in enumerate(words(bits, n))].__getitem__)


def pcg(seed):
    return np.random.PCG64(seed)
