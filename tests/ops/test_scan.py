"""The discounted sum: against the oracle, its kinds, and its names in messages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath.ops import discounted_sum

NUMBERS = st.integers(-640, 640).map(lambda k: k / 64)
ROWS = st.lists(st.lists(st.tuples(NUMBERS, st.booleans()), max_size=6), max_size=5)


@given(
    rows=ROWS,
    decay=st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    gaps=st.sampled_from(["carry", "state", "ignore", "cut"]),
    end=st.one_of(st.none(), NUMBERS),
)
def test_the_oracle(oracle, tolerance, rows, decay, gaps, end):
    mask = [[kept for _, kept in row] for row in rows]
    numbers = [[x if kept or gaps == "ignore" else 0.0 for x, kept in row] for row in rows]
    ends = None if end is None else [end] * len(rows)
    x = rm.Ragged.from_lists(numbers, dtype=np.float64)
    flat = np.array([kept for row in mask for kept in row], dtype=bool)
    got = discounted_sum(x, decay=decay, mask=flat, gaps=gaps, bootstrap="zero" if ends is None else ends)
    expected = oracle("ops/scan.py", "discounted_sum")(numbers, mask, decay=decay, gaps=gaps, bootstrap=ends)
    assert_allclose(got.values, [y for row in expected for y in row], **tolerance("float64"))


@given(rows=ROWS)
def test_whitening_inside_is_whitening_afterwards(same_bits, rows):
    x = rm.Ragged.from_lists([[x for x, _ in row] for row in rows], dtype=np.float64)
    how = rm.ops.Whiten(ddof=0)
    same_bits(
        discounted_sum(x, decay=0.5, whiten=how).values, rm.ops.whiten(discounted_sum(x, decay=0.5), how=how).values
    )


@pytest.mark.parametrize("rows", ["lengths", "mask", "ragged mask"])
def test_one_number_a_row_gives_its_kind_in_the_form_of_the_rows(rows):
    torch = pytest.importorskip("torch")
    mask = np.array([[1, 0], [1, 1]])
    given_by = {
        "lengths": {"lengths": [1, 2]},
        "mask": {"mask": mask},
        "ragged mask": {"mask": rm.Ragged.from_padded(mask, lengths=[1, 2])},
    }[rows]
    array, tensor = np.array([1.0, 2.0], np.float32), torch.tensor([1.0, 2.0])
    ours, theirs = discounted_sum(array, decay=0.5, **given_by), discounted_sum(tensor, decay=0.5, **given_by)
    if rows != "mask":
        assert isinstance(ours, rm.Ragged)
        ours, theirs = ours.values, theirs.values
    assert (type(ours), ours.dtype, theirs.dtype) == (np.ndarray, np.float32, torch.float32)
    assert ours.tolist() == theirs.tolist() == ([[1.0, 0.0], [1.0, 2.0]] if rows == "mask" else [1.0, 1.0, 2.0])
    from_tensors = discounted_sum(array, mask=torch.from_numpy(mask))
    assert isinstance(from_tensors, np.ndarray)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ([[1.0]], {"decay": 1.5}, r"'decay' must be in \[0, 1\], got 1.5"),
        ([[1.0, np.nan]], {}, "'x' must be finite at trained tokens, got NaN at row 0, position 1"),
        ([[1.0, 2.0]], {"mask": [[1, 0]]}, "'x' has 2 at row 0, position 1, where the mask is 0"),
        ([1.0], {"lengths": [0]}, "'x' has 1 for row 0, which has no trained token"),
        ([1.0], {}, "one number a row in 'x' needs 'mask' or 'lengths'"),
        ([[1.0]], {"bootstrap": "last"}, "'bootstrap' must be 'zero', or an array with one number a row, got 'last'"),
    ],
)
def test_wrong_calls_name_their_argument(x, options, message):
    with pytest.raises(ValueError, match=rf"^discounted_sum\(\): {message}"):
        discounted_sum(x, **options)
    own = message.replace("'x'", "'scores'")
    with pytest.raises(ValueError, match=rf"^mine\(\): {own}"):
        discounted_sum(x, **options, name="scores", who="mine")
