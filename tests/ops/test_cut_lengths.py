"""Cut points by numbers of tokens: the official chunks, the oracle, and what has to be refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath.ops import cut_by_count, cut_by_length

SEEDS = st.integers(0, 2**32)
CALLS = {"cut_by_count": cut_by_count, "cut_by_length": cut_by_length}


@given(SEEDS, st.sampled_from(sorted(CALLS)), st.booleans(), st.booleans())
def test_against_the_oracle(oracle, seed, name, prompt, one_for_all):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 14, rng.integers(1, 8))
    masks = [(rng.random(n) < rng.choice([0.0, 0.5, 1.0])).astype(int).tolist() for n in lengths]
    numbers = np.full(len(lengths), rng.integers(1, 6)) if one_for_all else rng.integers(1, 18, len(lengths))
    given_ = int(numbers[0]) if one_for_all else numbers
    call, f = CALLS[name], oracle("ops/cut_lengths.py", name)
    ragged = rm.Ragged.from_lists(masks, dtype="int64")
    got = call(given_, mask=ragged, include_prompt=prompt)
    assert got.values.dtype == np.int64
    assert got.to_lists() == f(numbers, masks, prompt)
    assert call(given_, mask=ragged.to_padded(), include_prompt=prompt).to_lists() == got.to_lists()
    garbage = ragged.to_padded(fill=1)
    assert call(given_, mask=garbage, lengths=lengths, include_prompt=prompt).to_lists() == got.to_lists()
    full = call(given_, lengths=lengths, include_prompt=prompt)
    assert full.to_lists() == f(numbers, [[1] * n for n in lengths], prompt)


def test_chunks_of_the_official_code():
    # The chunks of its naive chain: 4 segments, the first T mod 4 one longer. Empty ones are not cut here.
    assert cut_by_count(4, lengths=[8, 9, 10, 11, 4, 3, 1, 0]).to_lists() == [
        [1, 3, 5],
        [2, 4, 6],
        [2, 5, 7],
        [2, 5, 8],
        [0, 1, 2],
        [0, 1],
        [],
        [],
    ]


@given(SEEDS)
def test_segments_are_as_long_as_they_should_be(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 200, 5)
    k = int(rng.integers(1, 9))
    for row, n in zip(cut_by_count(k, lengths=lengths), lengths, strict=True):
        sizes = np.diff([-1, *row, n - 1])
        assert len(sizes) == min(k, n)
        assert sizes.max() - sizes.min() <= 1
        assert (np.diff(sizes) <= 0).all()
    for row, n in zip(cut_by_length(k, lengths=lengths), lengths, strict=True):
        sizes = np.diff([-1, *row, n - 1])
        assert (sizes[:-1] == k).all()
        assert 1 <= sizes[-1] <= k


def test_huge_numbers_take_no_memory():
    assert cut_by_count(10**18, lengths=[3]).to_lists() == [[0, 1]]
    assert cut_by_count(2**70, lengths=[3]).to_lists() == [[0, 1]]
    assert cut_by_length(2**70, lengths=[3], include_prompt=True).to_lists() == [[-1]]


def test_kinds():
    torch = pytest.importorskip("torch")
    for call in CALLS.values():
        assert call(2, lengths=torch.tensor([5])).values.dtype == torch.int64
        assert call(2, mask=torch.tensor([[True, True, False]])).values.dtype == torch.int64
        assert call(torch.tensor([2]), lengths=[5]).values.dtype == np.int64
        assert len(call(2, lengths=[])) == 0


@pytest.mark.parametrize("name", sorted(CALLS))
def test_errors(name):
    call, argument = CALLS[name], {"cut_by_count": "count", "cut_by_length": "segment_length"}[name]
    for arguments, keywords, error, message in [
        ((2,), {}, ValueError, "'lengths' or 'mask' is needed, which say what the rows are"),
        ((0,), {"lengths": [3]}, ValueError, f"'{argument}' must be at least 1, got 0"),
        (([1, -2],), {"lengths": [3, 3]}, ValueError, f"'{argument}' must be at least 1, got -2 at row 1"),
        (([1],), {"lengths": [3, 3]}, ValueError, rf"'{argument}' must have length 2 \(= the number of rows\), got 1"),
        ((2.0,), {"lengths": [3]}, TypeError, f"'{argument}' must be a whole number"),
        (([2.0],), {"lengths": [3]}, TypeError, f"'{argument}' must hold integers"),
        ((True,), {"lengths": [3]}, TypeError, f"'{argument}' must be a whole number"),
        ((2,), {"lengths": [-1]}, ValueError, "'lengths' must be not negative, got -1 at index 0"),
        ((2,), {"lengths": [1.5]}, TypeError, "'lengths' must hold integers"),
        ((2,), {"mask": [1, 1]}, TypeError, r"'mask' must be a Ragged or a padded 2-D array"),
        ((2,), {"mask": [[0.5]]}, TypeError, r"'mask' must be bool or integer"),
        ((2,), {"lengths": [3], "include_prompt": 0}, TypeError, "'include_prompt' must be True or False, got 0"),
    ]:
        with pytest.raises(error, match=rf"^{name}\(\): {message}"):
            call(*arguments, **keywords)
