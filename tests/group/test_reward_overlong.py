"""The overlong penalty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm

penalty = rm.group.overlong_penalty
LENGTHS = st.lists(st.integers(0, 200), max_size=20)


def test_by_hand():
    lengths = [0, 80, 81, 90, 100, 101, 140]
    assert penalty(lengths, max_length=100, buffer=20).tolist() == [0, 0, -0.05, -0.5, -1, -1, -1]
    got = penalty(lengths, max_length=100, buffer=20, factor=2, capped=False)
    assert got.tolist() == [0, 0, -0.1, -1, -2, -2.1, -6]
    assert penalty([99, 100, 101], max_length=100, buffer=0).tolist() == [0, 0, -1]
    assert penalty([5, 5, 120], max_length=100, buffer=20, capped=False, truncated=[1, 0, 1]).tolist() == [-1, 0, -2]
    assert not np.signbit(penalty([3], max_length=100, buffer=20)).any()


@given(LENGTHS, st.sampled_from([1, 20, 100]), st.sampled_from([1.0, 0.5]), st.booleans(), st.booleans())
def test_the_oracle(oracle, tolerance, lengths, buffer, factor, capped, cut):
    options = {"max_length": 100, "buffer": buffer, "factor": factor, "capped": capped}
    options["truncated"] = [n % 3 == 0 for n in lengths] if cut else None
    expected = oracle("group/reward_overlong.py", "overlong_penalty")(lengths, **options)
    assert_allclose(penalty(np.array(lengths), **options), expected, **tolerance("float64"))


@given(st.lists(st.integers(0, 200), min_size=2, max_size=20), st.booleans())
def test_longer_is_never_better(lengths, capped):
    assert (np.diff(penalty(np.sort(lengths), max_length=100, buffer=30, capped=capped)) <= 0).all()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"buffer": 200}, ValueError, r"overlong_penalty\(\): 'buffer' must be at most 100 \(= max_length\), got 200"),
        ({"buffer": 0, "capped": False}, ValueError, "'buffer' must be greater than 0 with capped=False, got 0"),
        ({"buffer": -1}, ValueError, "'buffer' must be finite and not negative, got -1"),
        ({"max_length": 0}, ValueError, "'max_length' must be finite and positive, got 0"),
        ({"max_length": True}, TypeError, "'max_length' must be a number, got True"),
        ({"factor": np.nan}, ValueError, "'factor' must be finite and not negative, got nan"),
        ({"capped": "no"}, TypeError, "'capped' must be True or False, got 'no'"),
        ({"capped": 1}, TypeError, "'capped' must be True or False, got 1"),
        ({"truncated": [1, 0]}, ValueError, r"'truncated' must have length 1 \(= len\(lengths\)\), got 2"),
        ({"truncated": [0.5]}, TypeError, "'truncated' must be bool or integer"),
    ],
)
def test_errors_of_options(options, error, match):
    with pytest.raises(error, match=match):
        penalty([5], **({"max_length": 100, "buffer": 20} | options))


@pytest.mark.parametrize("lengths", [[-1], [np.nan]])
def test_errors_of_lengths(lengths):
    with pytest.raises(ValueError, match="'lengths' must be finite and not negative"):
        penalty(lengths, max_length=100, buffer=20)
