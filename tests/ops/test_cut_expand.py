"""Segments between cuts: the number of each token's, and numbers of segments at their tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Ragged
from rollmath.ops import expand_segments, segment_of

SEEDS = st.integers(0, 2**32)


def draw(seed):
    """Masks and cuts of random rows, as lists."""
    rng = np.random.default_rng(seed)
    masks, cuts = [], []
    for n in rng.integers(0, 10, rng.integers(1, 8)):
        mask = (rng.random(n) < rng.choice([0.0, 0.5, 1.0])).astype(int)
        last = int(np.flatnonzero(mask).max(initial=-1))
        places = np.arange(-1, last)
        masks.append(mask.tolist())
        cuts.append(np.sort(rng.choice(places, rng.integers(0, len(places) + 1), replace=False)).tolist())
    return masks, cuts, rng


@given(SEEDS, st.sampled_from([np.float32, np.float64]))
def test_against_the_oracle(oracle, same_bits, seed, dtype):
    masks, cuts, rng = draw(seed)
    ragged, made = Ragged.from_lists(masks, dtype="int64"), Ragged.from_lists(cuts, dtype="int64")
    numbers = oracle("ops/cut_expand.py", "segment_of")(cuts, masks)
    got = segment_of(made, mask=ragged)
    assert got.to_lists() == numbers
    padded = Ragged.from_lists(numbers, dtype="int64").to_padded(10, fill=-1)
    same_bits(segment_of(made, mask=ragged.to_padded(10)), padded)
    same_bits(segment_of(made, mask=ragged.to_padded(10, fill=1), lengths=ragged.lengths), padded)

    x = Ragged.from_lists([rng.normal(size=len(row) + 1).tolist() for row in cuts], dtype=np.dtype(dtype).name)
    expected = oracle("ops/cut_expand.py", "expand_segments")(x.to_lists(), cuts, masks)
    flat = expand_segments(x, made, mask=ragged)
    same_bits(flat.values, np.array([v for row in expected for v in row], dtype))
    same_bits(expand_segments(x, made, mask=ragged.to_padded(10)), flat.to_padded(10))
    # Padded numbers may be more than there are segments.
    same_bits(expand_segments(x.to_padded(14, fill=9), made, mask=ragged).values, flat.values)
    out = np.full(len(flat.values), 7, dtype)
    assert expand_segments(x, made, mask=ragged, out=ragged.with_values(out)).values is out
    same_bits(out, flat.values)
    # What numbers turns expands them, too.
    same_bits(rm.temporal.expand_turns(x, got).values, flat.values)
    # Lengths alone: no gaps.
    if all(all(mask) for mask in masks):
        same_bits(expand_segments(x, made, lengths=ragged.lengths).values, flat.values)
        assert segment_of(made, lengths=ragged.lengths).to_lists() == numbers


@given(SEEDS)
def test_without_a_mask(oracle, seed):
    masks, cuts, rng = draw(seed)
    full = [[1] * len(mask) for mask in masks]
    made, lengths = Ragged.from_lists(cuts, dtype="int64"), [len(mask) for mask in masks]
    assert segment_of(made, lengths=lengths).to_lists() == oracle("ops/cut_expand.py", "segment_of")(cuts, full)
    x = [rng.normal(size=len(row) + 1).tolist() for row in cuts]
    got = expand_segments(Ragged.from_lists(x, dtype="float64"), made, lengths=lengths)
    assert got.to_lists() == oracle("ops/cut_expand.py", "expand_segments")(x, cuts, full)


def test_kinds():
    torch = pytest.importorskip("torch")
    cuts = Ragged.from_lists([[0]])
    got = expand_segments(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16), cuts, lengths=[3])
    assert (got.values.dtype, got.values.tolist()) == (torch.float32, [1.0, 2.0, 2.0])
    assert expand_segments([[1, 2]], cuts, mask=torch.tensor([[1, 1, 0]])).tolist() == [[1.0, 2.0, 0.0]]
    got = segment_of(cuts, mask=torch.tensor([[1, 0, 1]]))
    assert (got.dtype, got.tolist()) == (torch.int64, [[0, -1, 1]])
    assert segment_of(Ragged(torch.tensor([0]), [0, 1]), lengths=torch.tensor([2])).values.dtype == torch.int64


CUTS = [
    ([[0]], TypeError, r"'cuts' must be a Ragged of positions, one row a row of tokens, got an object of type list"),
    (Ragged.from_lists([[0]]), ValueError, r"'cuts' must have 2 rows \(= those of 'lengths'\), got 1"),
    (Ragged.from_lists([[0], [-2]]), ValueError, r"'cuts' must be at least -1 in each row, got -2 in row 1"),
    (Ragged.from_lists([[1, 0], []]), ValueError, r"'cuts' must be ascending in each row, got 0 after 1 in row 0"),
    (Ragged.from_lists([[1, 1], []]), ValueError, r"'cuts' must be ascending in each row, got 1 after 1 in row 0"),
    (
        Ragged.from_lists([[1], [1]]),
        ValueError,
        r"'cuts' must be before the last trained token, 1 in row 1, got 1; cut with the same mask and lengths",
    ),
    (Ragged.from_lists([[0.0], []]), TypeError, r"'cuts' must hold integers, got float64"),
]


@pytest.mark.parametrize(("cuts", "error", "message"), CUTS, ids=range(len(CUTS)))
def test_wrong_cuts(cuts, error, message):
    with pytest.raises(error, match=rf"^segment_of\(\): {message}"):
        segment_of(cuts, lengths=[3, 2])
    with pytest.raises(error, match=rf"^expand_segments\(\): {message}"):
        expand_segments([[1.0] * 3] * 2, cuts, lengths=[3, 2])


def test_errors():
    cuts = Ragged.from_lists([[0]])
    with pytest.raises(ValueError, match=r"segment_of\(\): 'lengths' or 'mask' is needed"):
        segment_of(cuts)
    with pytest.raises(ValueError, match=r"'cuts' must be before a trained token in row 0, got 0"):
        segment_of(cuts, mask=[[0, 0]])
    with pytest.raises(ValueError, match=r"expand_segments\(\): 'x' must have 1 rows \(= those of 'mask'\), got 2"):
        expand_segments([[1.0], [2.0]], cuts, mask=[[1, 1]])
    with pytest.raises(ValueError, match=r"'x' must have a number for each of the 2 segments of row 0, got 1"):
        expand_segments([[1.0]], cuts, lengths=[2])
    with pytest.raises(TypeError, match=r"'x' must be a Ragged or a padded 2-D array"):
        expand_segments([1.0], cuts, lengths=[2])
    with pytest.raises(TypeError, match=r"'out' must be of the kind and dtype"):
        expand_segments([[1.0, 2.0]], cuts, mask=[[1, 1]], out=np.zeros((1, 2), "f4"))
