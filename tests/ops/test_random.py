"""Random orders from a seed: the definition, the same numbers everywhere, uniformity."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath.ops._random import generator, permutation, ranks, uniform


@given(st.integers(0, 2**128), st.integers(0, 40))
def test_orders_by_definition(oracle, seed, n):
    bits, words = generator("f", seed), oracle("draws.py", "pcg")(seed)
    for _ in range(2):  # the second order goes on with the same words
        got = permutation(bits, n)
        assert got.dtype == np.int64
        assert got.tolist() == oracle("draws.py", "permutation")(words, n)


def test_the_same_numbers_everywhere():
    """NumPy keeps the words of PCG64 and of the seed; if these change, so do the draws of all who kept theirs."""
    assert generator("f", 7).random_raw(2).tolist() == [11530976094092348043, 16550673365885938325]
    assert permutation(generator("f", 7), 8).tolist() == [6, 3, 4, 0, 2, 7, 5, 1]
    assert permutation(generator("f", 2**64 + 1), 8).tolist() == [3, 1, 7, 4, 5, 0, 2, 6]
    assert uniform(generator("f", 7), 2).tolist() == np.random.Generator(np.random.PCG64(7)).random(2).tolist()


def test_all_orders_are_equally_likely():
    bits, n = generator("f", 0), 24_000
    seen = [tuple(permutation(bits, 4).tolist()) for _ in range(n)]
    counts = [seen.count(order) for order in permutations(range(4))]
    assert max(abs(c - n / 24) for c in counts) < 5 * math.sqrt(n / 24)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 5), max_size=30), st.booleans())
def test_ranks(seed, index, many):
    order, members = permutation(generator("f", seed), len(index)), np.array(index, np.int64)
    if many:  # past 16 bits
        members = members * 20_000
    got = ranks(order, members, 120_000 if many else 6)
    seen: dict[int, int] = {}
    for row in order.tolist():
        assert got[row] == seen.get(index[row], 0)
        seen[index[row]] = seen.get(index[row], 0) + 1


def test_seeds():
    for seed, error, message in [
        (-1, ValueError, r"f\(\): 'seed' must be at least 0, got -1"),
        (1.0, TypeError, r"f\(\): 'seed' must be a whole number, got an object of type float"),
        (None, TypeError, r"f\(\): 'seed' must be a whole number, got an object of type NoneType"),
        (True, TypeError, r"f\(\): 'seed' must be a whole number"),
    ]:
        with pytest.raises(error, match=message):
            generator("f", seed)
