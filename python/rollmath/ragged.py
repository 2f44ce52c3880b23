"""Ragged: rows of unequal length in one flat array."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import (
    Array,
    ArrayLike,
    Immutable,
    Kind,
    describe,
    frozen,
    host,
    integers,
    is_tensor,
    to_bytes,
)
from rollmath._buffers import as_width, bits_of, check_apart, fill_bits, is_host, no_grad, output

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray


class Ragged(Immutable):
    """Rows of unequal length: ``values[offsets[i]:offsets[i + 1]]`` is row ``i``.

    The shape of ``cu_seqlens`` and of torch jagged tensors. Lengths define rows; a mask marks gaps *inside* rows and
    is an array of its own. Against a padded ``[B, T]`` array, row ``i`` means its columns ``0 .. lengths[i] - 1``.

    Args:
        values: 1-D NumPy array or torch tensor of any dtype (a CUDA tensor stays where it is), or a list.
        offsets: integers ``[rows + 1]``: first 0, never decreasing, last ``len(values)``.

    Attributes:
        values: what was given, not copied.
        offsets: int64, read-only, on the host.
        positions: for rows taken through a mask, the column of each value (int64, read-only); else None.

    Raises:
        ValueError: offsets that do not describe ``values``.
        TypeError: wrong rank or dtype.

    >>> rows = Ragged.from_lists([[1, 2, 3], [], [4]])
    >>> rows
    Ragged(3 rows, 4 values of int64)
    >>> rows.lengths.tolist(), rows[0].tolist(), rows.to_padded(fill=-1).tolist()
    ([3, 0, 1], [1, 2, 3], [[1, 2, 3], [-1, -1, -1], [4, -1, -1]])
    """

    values: Array
    offsets: NDArray[np.int64]
    positions: NDArray[np.int64] | None

    def __init__(self, values: ArrayLike, offsets: ArrayLike) -> None:
        if not is_tensor(values) and not isinstance(values, np.ndarray):
            values, _ = host("Ragged", "values", values)
        if len(values.shape) != 1:
            msg = f"Ragged(): 'values' must be 1-D, got {describe(values)}; use Ragged.from_padded for rows"
            raise TypeError(msg)
        checked, _ = integers("Ragged", "offsets", offsets)
        _core.check_offsets("Ragged", "offsets", checked, len(values))
        # A copy: the offsets of the caller may change later.
        self._fill(values=values, offsets=frozen(checked.copy()), positions=None)

    @classmethod
    def _make(cls, values: Array, offsets: NDArray[np.int64], positions: NDArray[np.int64] | None = None) -> Ragged:
        """Of parts that are known to fit together."""
        ragged = cls.__new__(cls)
        positions = positions if positions is None else frozen(positions)
        ragged._fill(values=values, offsets=frozen(offsets), positions=positions)
        return ragged

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[Any]], *, dtype: DTypeLike | None = None) -> Ragged:
        """From a list of lists of numbers, each object read once.

        Args:
            lists: a row each; rows may also be tuples or arrays.
            dtype: int64, int32, float64 or float32; default int64, or float64 if the first number is a float.

        Raises:
            TypeError: an element that is no number, a float among integers, or an integer that does not fit; the
                message says which one.
        """
        if isinstance(lists, np.ndarray) and lists.dtype != object:
            msg = f"Ragged.from_lists(): 'lists' must be a list of rows, got {describe(lists)}; use Ragged.from_padded"
            raise TypeError(msg)
        if isinstance(lists, (str, bytes)) or not hasattr(lists, "__iter__"):
            msg = f"Ragged.from_lists(): 'lists' must be a list of rows, got {describe(lists)}"
            raise TypeError(msg)
        try:
            name = "" if dtype is None else np.dtype(dtype).name
        except TypeError:
            msg = f"Ragged.from_lists(): 'dtype' must be one of int64, int32, float64, float32, got {dtype!r}"
            raise TypeError(msg) from None
        rows = lists if isinstance(lists, list) else list(lists)
        return cls._make(*_core.from_lists("Ragged.from_lists", rows, name))

    @classmethod
    def from_lengths(cls, values: ArrayLike, lengths: ArrayLike) -> Ragged:
        """From packed values and the length of each row."""
        checked, _ = integers("Ragged.from_lengths", "lengths", lengths)
        offsets = _core.offsets_from_lengths("Ragged.from_lengths", checked)
        if not is_tensor(values):
            values, _ = host("Ragged.from_lengths", "values", values)
        if len(values.shape) != 1 or len(values) != offsets[-1]:
            msg = (
                f"Ragged.from_lengths(): 'values' must be 1-D of length {offsets[-1]} (= sum of lengths), "
                f"got shape {tuple(values.shape)}"
            )
            raise ValueError(msg)
        return cls._make(values, offsets)

    @classmethod
    def from_padded(
        cls,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Ragged:
        """From a padded ``[B, T]`` array.

        With ``lengths`` the first ``lengths[i]`` columns of each row are kept, gaps inside them too. With ``mask``
        (``[B, T]``, bool or int, nonzero = True) only the marked elements are kept, and ``positions`` tells their
        columns. Exactly one of the two.

        Args:
            x: ``[B, T]``, any dtype of 1, 2, 4 or 8 bytes. It is copied first if it is not C-contiguous. A CUDA tensor
                is gathered on its device.
            lengths: integers ``[B]``, each between 0 and ``T``.
            mask: which elements to keep.
            out: 1-D, for the values, of exactly their number and dtype (``lengths`` only).

        Raises:
            ValueError: wrong lengths, a tensor that requires grad, an ``out`` that does not fit or is read-only.
            TypeError: wrong rank or dtype.
        """
        who = "Ragged.from_padded"
        if (lengths is None) == (mask is None):
            msg = f"{who}(): give either 'lengths' or 'mask'"
            raise ValueError(msg)
        if mask is not None:
            if out is not None:
                msg = f"{who}(): 'out' goes with 'lengths'"
                raise ValueError(msg)
            return cls._from_mask(x, mask)
        checked, _ = integers(who, "lengths", lengths)
        shape = _shape2(who, x)
        offsets = _core.offsets_from_lengths(who, checked, shape[1], "the columns of x")
        _check_rows(who, "lengths", len(checked), shape[0])
        if is_tensor(x) and x.device.type != "cpu":
            return cls._make(_gather_on_device(x, offsets, out, who), offsets)
        bits = bits_of(who, "x", x)
        values = output(who, out, (int(offsets[-1]),), x)
        target = bits_of(who, "out", values)
        check_apart(who, target, bits, "x")
        _core.pack(who, bits.reshape(-1), shape[1], offsets, target)
        return cls._make(values, offsets)

    @classmethod
    def _from_mask(cls, x: ArrayLike, mask: ArrayLike) -> Ragged:
        who = "Ragged.from_padded"
        rows, width = _shape2(who, x)
        array, _ = host(who, "mask", mask)
        if array.shape != (rows, width):
            msg = f"{who}(): 'mask' must have shape ({rows}, {width}) (= x.shape), got {array.shape}"
            raise ValueError(msg)
        marks = to_bytes(who, "mask", array).reshape(-1)
        offsets, positions = _core.mask_positions(who, marks, rows, width)
        flat = positions + np.repeat(np.arange(rows) * width, np.diff(offsets))
        if is_tensor(x):
            torch_index = Kind(x.device).wrap(flat)
            return cls._make(no_grad(who, x, "x").reshape(-1)[torch_index], offsets, positions)
        x, _ = host(who, "x", x)
        return cls._make(np.ascontiguousarray(x).reshape(-1)[flat], offsets, positions)

    def to_padded(self, width: int | None = None, *, fill: float = 0, out: Array | None = None) -> Array:
        """As a ``[B, T]`` array, ``fill`` where a row has no value.

        Values taken through a mask go back to their columns.

        Args:
            width: ``T``; default the longest row (with ``positions``: the last column used).
            fill: a number that the dtype can hold.
            out: ``[B, T]`` C-contiguous, of the dtype of the values, to write into; returned.

        Raises:
            ValueError: a row longer than ``width``, or an ``out`` that does not fit.
        """
        who = "Ragged.to_padded"
        if width is None:
            width = self._width()
            if out is not None and len(getattr(out, "shape", ())) == 2:
                if out.shape[1] < width:
                    msg = f"{who}(): 'out' must have at least {width} columns (= the longest row), got {out.shape[1]}"
                    raise ValueError(msg)
                width = int(out.shape[1])
        shape = (len(self), as_width(who, width))
        padded = output(who, out, shape, self.values)
        one = fill_bits(who, fill, self.values)
        if not is_host(self.values):
            # On its device; padding of a negative zero or a NaN keeps its value, not its bits.
            flat = Kind(self.values.device).wrap(self._flat(who, shape))
            padded.fill_(fill).reshape(-1)[flat] = no_grad(who, self.values, "values")
            return padded
        bits, target = bits_of(who, "values", self.values), bits_of(who, "out", padded).reshape(-1)
        check_apart(who, target, bits, "values")
        if self.positions is None:
            _core.unpack(who, bits, self.offsets, shape[1], one, target)
        else:
            target.fill(one[0])
            target[self._flat(who, shape)] = bits
        return padded

    def _flat(self, who: str, shape: tuple[int, int]) -> NDArray[np.int64]:
        """Place of each value in the flattened padded array."""
        columns = self.positions
        if columns is None:
            columns = np.arange(int(self.offsets[-1])) - np.repeat(self.offsets[:-1], self.lengths)
        if len(columns) and columns.max() >= shape[1]:
            msg = f"{who}(): 'width' must be over {columns.max()} (= the last column used), got {shape[1]}"
            raise ValueError(msg)
        flat: NDArray[np.int64] = columns + np.repeat(np.arange(shape[0]) * shape[1], self.lengths)
        return flat

    def _width(self) -> int:
        if self.positions is not None:
            return int(self.positions.max()) + 1 if len(self.positions) else 0
        return int(self.lengths.max()) if len(self) else 0

    def to_lists(self) -> list[list[Any]]:
        """As a list of lists."""
        return [row.tolist() for row in self]

    def with_values(self, values: ArrayLike) -> Ragged:
        """The same rows with other values (one per token, any dtype)."""
        return Ragged._make(Ragged(values, self.offsets).values, self.offsets, self.positions)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row, int64 ``[B]``."""
        return frozen(np.diff(self.offsets))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        n = len(self)
        try:
            row = operator.index(row)
        except TypeError:
            msg = f"Ragged[...]: a row is an integer, got {describe(row)}"
            raise TypeError(msg) from None
        if not -n <= row < n:
            msg = f"Ragged[...]: row {row} is out of range for {n} rows"
            raise IndexError(msg)
        row %= n
        return self.values[int(self.offsets[row]) : int(self.offsets[row + 1])]

    def __iter__(self) -> Iterator[Array]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        dtype = str(self.values.dtype).removeprefix("torch.")
        return f"Ragged({len(self)} rows, {len(self.values)} values of {dtype})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.values, self.offsets, self.positions)


def _restore(values: Array, offsets: NDArray[np.int64], positions: NDArray[np.int64] | None) -> Ragged:
    return Ragged._make(Ragged(values, offsets).values, offsets.copy(), positions)


def _shape2(who: str, x: ArrayLike) -> tuple[int, int]:
    if isinstance(x, np.ma.MaskedArray):
        msg = f"{who}(): 'x' is a masked array, whose mask would be lost; pass its .data, and ~mask as mask="
        raise TypeError(msg)
    if not hasattr(x, "shape") or len(x.shape) != 2:
        msg = f"{who}(): 'x' must be a 2-D array [B, T], got {describe(x)}"
        raise TypeError(msg)
    return int(x.shape[0]), int(x.shape[1])


def _check_rows(who: str, name: str, got: int, expected: int) -> None:
    if got != expected:
        msg = f"{who}(): {name!r} must have length {expected} (= the rows of x), got {got}"
        raise ValueError(msg)


def _gather_on_device(x: Any, offsets: NDArray[np.int64], out: Any, who: str) -> Any:
    columns = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], np.diff(offsets))
    flat = columns + np.repeat(np.arange(x.shape[0]) * x.shape[1], np.diff(offsets))
    values = no_grad(who, x, "x").reshape(-1)[Kind(x.device).wrap(flat)]
    if out is None:
        return values
    return output(who, out, tuple(values.shape), x).copy_(values)
