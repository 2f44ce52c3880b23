"""Ragged rows: every way in and out, gaps, buffers of the caller."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Ragged

LISTS = st.lists(st.lists(st.integers(-5, 5), max_size=6), max_size=8)
DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u1", "bool", "c8", ">f4"]


@given(LISTS)
def test_lists_there_and_back(lists):
    rows = Ragged.from_lists(lists)
    assert rows.to_lists() == lists
    assert (len(rows), rows.lengths.tolist()) == (len(lists), [len(r) for r in lists])
    assert rows.offsets.tolist() == np.cumsum([0, *rows.lengths]).tolist()
    assert [row.tolist() for row in rows] == lists
    assert Ragged.from_lengths(rows.values, rows.lengths).to_lists() == lists
    assert Ragged(rows.values, rows.offsets).to_lists() == lists
    assert Ragged.from_lists([tuple(r) for r in lists]).to_lists() == lists
    assert Ragged.from_lists([np.array(r, dtype=np.int32) for r in lists]).to_lists() == lists


@pytest.mark.parametrize("dtype", DTYPES)
@given(lists=LISTS, extra=st.integers(0, 3))
def test_padding_there_and_back(same_bits, dtype, lists, extra):
    rows = Ragged.from_lengths(np.array([v for r in lists for v in r]).astype(dtype), [len(r) for r in lists])
    width = max(map(len, lists), default=0) + extra
    expected = np.ones((len(lists), width), dtype=dtype)
    for row, value in zip(expected, rows, strict=True):
        row[: len(value)] = value
    padded = rows.to_padded(width, fill=1)
    same_bits(padded, expected)
    out = np.empty_like(expected)
    assert rows.to_padded(out=out, fill=1) is out
    same_bits(out, expected)
    shifted = np.frombuffer(b"x" + padded.tobytes(), dtype=dtype, count=padded.size, offset=1).reshape(padded.shape)
    for x in (padded, np.asfortranarray(padded), padded[::-1][::-1], shifted):
        same_bits(Ragged.from_padded(x, lengths=rows.lengths).values, rows.values)
    flat = np.empty_like(rows.values)
    assert Ragged.from_padded(padded, lengths=rows.lengths, out=flat).values is flat
    same_bits(flat, rows.values)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int64", "uint8", "bool", "complex64"])
def test_tensors(dtype):
    torch = pytest.importorskip("torch")
    values = torch.tensor([1, 0, 3, 4, 5]).to(getattr(torch, dtype))
    rows = Ragged.from_lengths(values, torch.tensor([2, 0, 3]))
    padded = rows.to_padded(fill=1)
    assert (padded.dtype, padded.shape) == (values.dtype, (3, 3))
    assert torch.equal(padded[0], torch.cat([values[:2], values.new_ones(1)]))
    for x in (padded, padded.T.contiguous().T):  # the second is in Fortran order
        assert torch.equal(Ragged.from_padded(x, lengths=rows.lengths).values, values)
    out = torch.zeros(3, 4, dtype=values.dtype)
    assert rows.to_padded(out=out) is out
    assert torch.equal(out[2, :3], values[2:])
    mask = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 0, 1]])
    marked = Ragged.from_padded(padded, mask=mask)
    assert torch.equal(marked.values, torch.stack([padded[0, 0], padded[2, 0], padded[2, 2]]))
    assert rows[2].dtype == values.dtype


@given(LISTS, st.integers(0, 3))
def test_masks_keep_columns_and_lengths_keep_gaps(lists, extra):
    width = max(map(len, lists), default=0) + extra
    x = np.arange(len(lists) * width, dtype=np.float64).reshape(len(lists), width)
    mask = np.zeros_like(x, dtype=bool)
    for row, marks in zip(mask, lists, strict=True):
        row[: len(marks)] = [m > 0 for m in marks]
    rows = Ragged.from_padded(x, mask=mask)
    assert rows.to_lists() == [line[m].tolist() for line, m in zip(x, mask, strict=True)]
    assert rows.positions.tolist() == np.nonzero(mask)[1].tolist()
    back = rows.to_padded(width, fill=-1)
    assert np.array_equal(back, np.where(mask, x, -1))
    for other in (mask.astype(np.int64) * 7, np.asfortranarray(mask), mask.view(np.uint8) * 2):
        assert Ragged.from_padded(x, mask=other).to_lists() == rows.to_lists()
    assert Ragged.from_padded(x, lengths=[width] * len(lists)).positions is None
    assert np.array_equal(rows.with_values(-rows.values).to_padded(width), np.where(mask, -x, 0))


def test_a_large_batch_in_parallel(same_bits):
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 600, size=400)
    lengths[::7] = 0
    x = rng.normal(size=(400, 600)).astype(np.float32)
    rows = Ragged.from_padded(x, lengths=lengths)
    same_bits(rows.values, x[np.arange(600) < lengths[:, None]])
    same_bits(rows.to_padded(600), np.where(np.arange(600) < lengths[:, None], x, np.float32(0)))


def test_edges():
    for rows in (Ragged([], [0]), Ragged.from_lists([]), Ragged.from_padded(np.zeros((0, 5)), lengths=[])):
        assert (len(rows), rows.to_lists(), rows.to_padded().shape) == (0, [], (0, 0))
    empty = Ragged.from_lists([[], []])
    assert (empty.values.dtype, empty.to_padded().shape, empty.to_padded(2).shape) == (np.int64, (2, 0), (2, 2))
    assert Ragged.from_padded(np.zeros((3, 0)), lengths=[0, 0, 0]).to_lists() == [[], [], []]
    assert Ragged.from_padded(np.zeros((3, 0)), mask=np.zeros((3, 0), bool)).to_lists() == [[], [], []]
    rows = Ragged.from_lists([[1, 2], [3]])
    assert rows[-1].tolist() == [3]
    assert rows[np.int64(0)].tolist() == [1, 2]
    assert Ragged.from_lists([[1.5], [2]]).values.dtype == np.float64
    assert Ragged.from_lists([[True, 2]]).to_lists() == [[1, 2]]
    assert Ragged.from_lists([[1]], dtype=np.float32).values.dtype == np.float32
    assert Ragged.from_lists([[1]], dtype="int32").values.dtype == np.int32


def test_pickle_and_repr():
    rows = pickle.loads(pickle.dumps(Ragged.from_padded(np.eye(3), mask=np.eye(3, dtype=bool))))
    assert (repr(rows), rows.positions.tolist()) == ("Ragged(3 rows, 3 values of float64)", [0, 1, 2])
    assert np.array_equal(rows.to_padded(), np.eye(3))


def test_offsets_do_not_follow_the_array_of_the_caller():
    torch = pytest.importorskip("torch")
    for offsets in (np.array([0, 2, 3]), torch.tensor([0, 2, 3]), np.array([0, 2, 3], dtype=np.int32)):
        rows = Ragged(np.arange(3), offsets)
        offsets[1] = 3
        assert rows.offsets.tolist() == [0, 2, 3]
        assert not rows.offsets.flags.writeable
    values = np.arange(3)
    assert Ragged(values, [0, 3]).values is values


def test_out_may_not_share_memory():
    torch = pytest.importorskip("torch")
    buffer, array, tensor = bytearray(48), np.zeros((2, 3)), torch.zeros(2, 3)
    for x, out in [
        (array, array.reshape(-1)[:5]),
        (tensor, tensor.view(-1)[1:]),
        (np.frombuffer(buffer, float).reshape(2, 3), np.frombuffer(buffer, float)[1:]),
        (tensor.numpy(), tensor.numpy().reshape(-1)[1:]),
    ]:
        with pytest.raises(ValueError, match=r"Ragged.from_padded\(\): 'out' shares memory with 'x'"):
            Ragged.from_padded(x, lengths=[2, 3], out=out)
        with pytest.raises(ValueError, match=r"Ragged.to_padded\(\): 'out' shares memory with 'values'"):
            Ragged(x.reshape(-1)[:3], [0, 2, 3]).to_padded(out=x)


ROWS = Ragged.from_lists([[1, 2], [3]])
MESSAGES = [
    (lambda: Ragged([[1, 2]], [0, 1]), TypeError, "Ragged.*'values' must be 1-D, got a 2-D int64 array; use Ragged"),
    (lambda: Ragged([1, 2], []), ValueError, r"'offsets' must have at least one element"),
    (lambda: Ragged([1, 2], [1, 2]), ValueError, "'offsets' must start at 0, got 1"),
    (lambda: Ragged([1, 2], [0, 1]), ValueError, r"'offsets' must end at 2 \(= len\(values\)\), got 1"),
    (lambda: Ragged([1, 2], [0, 2, 1, 2]), ValueError, "'offsets' must not decrease, got 1 after 2 at index 2"),
    (lambda: Ragged([1, 2], [0.0, 2.0]), TypeError, "'offsets' must hold integers, got float64"),
    (lambda: Ragged([1, None], [0, 2]), TypeError, "'values' must be an array of numbers, got an object of type list"),
    (lambda: Ragged.from_lengths([1], [2]), ValueError, r"'values' must be 1-D of length 2 \(= sum of lengths\), got"),
    (lambda: Ragged.from_lengths([1], [-1]), ValueError, "'lengths' must be not negative, got -1 at index 0"),
    (lambda: Ragged.from_lists(None), TypeError, "'lists' must be a list of rows, got an object of type NoneType"),
    (lambda: Ragged.from_lists("ab"), TypeError, "'lists' must be a list of rows, got an object of type str"),
    (lambda: Ragged.from_lists(np.eye(2)), TypeError, "'lists' must be a list of rows, got a 2-D float64 array; use"),
    (lambda: Ragged.from_lists([1]), TypeError, "'lists' must hold lists of numbers, got something else at index 0"),
    (
        lambda: Ragged.from_lists([[1], [2, 2.5]]),
        TypeError,
        r"must hold integers .*, got something else at lists\[1\]\[1\]",
    ),
    (
        lambda: Ragged.from_lists([[1.0, "a"]]),
        TypeError,
        r"must hold numbers \(that fit the dtype\), got something else at lists\[0\]\[1\]",
    ),
    (
        lambda: Ragged.from_lists([[2**40]], dtype="int32"),
        TypeError,
        r"integers \(that fit the dtype\).*lists\[0\]\[0\]",
    ),
    (
        lambda: Ragged.from_lists([[2**70]]),
        TypeError,
        r"integers \(that fit the dtype\), got something else at lists\[0\]",
    ),
    (
        lambda: Ragged.from_lists([[1]], dtype="int8"),
        ValueError,
        "'dtype' must be one of int64, int32, float64, float32",
    ),
    (lambda: Ragged.from_padded(np.eye(2)), ValueError, "give either 'lengths' or 'mask'"),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1, 1], mask=np.eye(2)),
        ValueError,
        "give either 'lengths' or 'mask'",
    ),
    (
        lambda: Ragged.from_padded([[1]], lengths=[1]),
        TypeError,
        r"'x' must be a 2-D array \[B, T\], got an object of type",
    ),
    (
        lambda: Ragged.from_padded(np.ones(3), lengths=[1]),
        TypeError,
        r"'x' must be a 2-D array \[B, T\], got a 1-D float",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1]),
        ValueError,
        r"'lengths' must have length 2 \(= the rows of x\)",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1, 3]),
        ValueError,
        r"between 0 and 2 \(= the columns of x\), got 3",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), mask=[[1, 0]]),
        ValueError,
        r"'mask' must have shape \(2, 2\) \(= x.shape\)",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), mask=np.eye(2)),
        TypeError,
        r"'mask' must be bool or integer .*, got float64",
    ),
    (lambda: Ragged.from_padded(np.ones((1, 1), "c16"), lengths=[1]), TypeError, "1, 2, 4 or 8 bytes, got complex128"),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1, 1], out=np.ones(3)),
        ValueError,
        r"'out' must have shape \(2,\)",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1, 1], out=np.ones(2, "f4")),
        TypeError,
        r"kind and dtype .*\(float64\)",
    ),
    (
        lambda: Ragged.from_padded(np.eye(2), lengths=[1, 1], out=[0, 0]),
        TypeError,
        "'out' must be of the kind and dtype",
    ),
    (lambda: ROWS.to_padded(1), ValueError, r"'lengths' must be at most 1 \(= width\), got 2 at row 0"),
    (lambda: ROWS.to_padded(-1), ValueError, "'width' must not be negative, got -1"),
    (lambda: ROWS.to_padded(2.0), TypeError, "'width' must be an integer, got an object of type float"),
    (lambda: ROWS.to_padded(fill=1.5), ValueError, "'fill' must fit int64, got 1.5"),
    (lambda: ROWS.to_padded(fill=float("nan")), ValueError, "'fill' must fit int64, got nan"),
    (lambda: ROWS.to_padded(fill="a"), ValueError, "'fill' must fit int64, got 'a'"),
    (lambda: ROWS.to_padded(out=np.zeros((2, 4), int)[:, ::2]), ValueError, "'out' must be C-contiguous"),
    (lambda: ROWS.to_padded(out=np.zeros((2, 2), int, order="F")), ValueError, "'out' must be C-contiguous"),
    (lambda: ROWS.to_padded(out=np.broadcast_to(np.int64(0), (2, 2))), ValueError, "'out' must be C-contiguous"),
    (lambda: ROWS.to_padded(out=np.frombuffer(bytearray(33), np.int64, 4, 1).reshape(2, 2)), ValueError, "and aligned"),
    (lambda: ROWS[2], IndexError, r"Ragged\[...\]: row 2 is out of range for 2 rows"),
    (lambda: ROWS[0:1], TypeError, r"Ragged\[...\]: a row is an integer, got an object of type slice"),
]


@pytest.mark.parametrize(("call", "error", "message"), MESSAGES)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_read_only_buffers_and_gradients():
    torch = pytest.importorskip("torch")
    out = np.zeros((2, 2), dtype=np.int64)
    out.setflags(write=False)
    with pytest.raises(
        ValueError, match=r"Ragged.to_padded\(\): 'out' is read-only; pass an array that may be written"
    ):
        ROWS.to_padded(out=out)
    x = torch.ones(2, 2, requires_grad=True)
    for keywords in ({"lengths": [1, 1]}, {"mask": [[1, 0], [0, 1]]}):
        with pytest.raises(ValueError, match=r"'x' requires grad, but no gradient flows .*; call .detach"):
            Ragged.from_padded(x, **keywords)
    with pytest.raises(ValueError, match="'values' requires grad"):
        Ragged(x.reshape(-1), [0, 4]).to_padded()
    with pytest.raises(ValueError, match="'out' requires grad"):
        Ragged(torch.ones(4), [0, 2, 4]).to_padded(out=x)


def test_a_float32_that_would_become_infinite_is_named():
    with pytest.raises(TypeError, match=r"'lists' must hold numbers \(that fit the dtype\), got .* at lists\[1\]\[0\]"):
        Ragged.from_lists([[1.0, np.inf], [1e300]], dtype=np.float32)


def test_rows_without_an_order_are_refused():
    for row in ({3: 1}, {9}, "12", b"12", 5):
        with pytest.raises(TypeError, match=r"'lists' must hold lists of numbers, got something else at index 1"):
            Ragged.from_lists([[1], row])
    assert Ragged.from_lists([(1, 2), range(2), np.array([5])]).to_lists() == [[1, 2], [0, 1], [5]]


def test_masked_arrays_and_bad_dtypes_are_refused():
    with pytest.raises(TypeError, match="'x' is a masked array, whose mask would be lost"):
        Ragged.from_padded(np.ma.masked_array([[1.0]], [[True]]), lengths=[1])
    with pytest.raises(TypeError, match="'dtype' must be one of int64, int32, float64, float32, got 'foo'"):
        Ragged.from_lists([[1]], dtype="foo")
