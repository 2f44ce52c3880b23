"""Token arrays of one call: packed or padded, with their mask, and where the results go."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import (
    _INTS,
    Array,
    ArrayLike,
    Kind,
    contiguous,
    describe,
    floats,
    host,
    host_only,
    integers,
    is_tensor,
    mask_bytes,
    to_bytes,
)
from rollmath._buffers import check_apart, output
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TokenRows:
    """The form that the token arrays of a call have in common.

    Packed: :class:`~rollmath.Ragged` with the same offsets. Padded: ``[B, T]``, of whose rows the first ``lengths[i]``
    columns are used. ``mask`` is flat like them, bytes; nonzero is trained.
    """

    who: str
    name: str
    kind: Kind
    shape: tuple[int, ...]
    packed: Ragged | None
    layout: _core.Layout
    mask: NDArray[np.uint8] | None = None
    #: Rows that take part; the others have no positions in the layout.
    valid: NDArray[np.uint8] | None = None
    #: False if padding is told from gaps by nothing: padded rows without lengths.
    ends_known: bool = True

    @classmethod
    def of(cls, who: str, name: str, x: Any, *, mask: Any = None, lengths: Any = None) -> TokenRows:
        """Of the token array ``x``, which the others have to be like."""
        if isinstance(x, Ragged):
            if lengths is not None:
                msg = f"{who}(): 'lengths' goes with padded arrays; {name!r} is a Ragged, which has its own"
                raise ValueError(msg)
            host_only(who, name, x.values)
            kind = Kind(x.values.device) if is_tensor(x.values) else Kind()
            layout = _core.Layout.packed(who, x.offsets)
            rows = cls(who, name, kind, (int(x.offsets[-1]),), x, layout)
        else:
            host_only(who, name, x)
            if isinstance(x, (list, tuple)):
                rank(who, name, x)
                x, _ = host(who, name, x)
            shape = tuple(int(n) for n in getattr(x, "shape", ()))
            if len(shape) != 2:
                msg = f"{who}(): {name!r} must be a Ragged or a padded 2-D array [B, T], got {describe(x)}"
                raise TypeError(msg)
            used = None if lengths is None else integers(who, "lengths", lengths)[0]
            kind = Kind(x.device) if is_tensor(x) else Kind()
            layout = _core.Layout.padded(who, shape[0], shape[1], used)
            rows = cls(who, name, kind, shape, None, layout, ends_known=used is not None)
        return rows if mask is None else rows.masked(mask)

    def masked(self, mask: Any) -> TokenRows:
        """With this mask."""
        flat = to_bytes(self.who, "mask", self._flat("mask", mask, packed_too=True))
        return replace(self, mask=flat)

    def like_kind(self, kind: Kind) -> TokenRows:
        """With results of this kind."""
        return replace(self, kind=kind)

    def only(self, valid: Any) -> TokenRows:
        """With nothing in the rows that are not valid."""
        keep = self.bytes_per_row("valid", valid)
        if keep is None:
            return self
        return replace(self, layout=self.layout.only(self.who, keep), valid=keep)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.layout.rows

    def _flat(self, name: str, x: Any, *, packed_too: bool = False) -> NDArray[Any]:
        """A token array as a flat NumPy array; ``packed_too`` allows a flat array for packed rows."""
        if isinstance(x, Ragged):
            if self.packed is None or (
                x.offsets is not self.packed.offsets and not np.array_equal(x.offsets, self.packed.offsets)
            ):
                what = f"a padded array like {self.name!r}" if self.packed is None else f"the offsets of {self.name!r}"
                msg = f"{self.who}(): {name!r} must {'be' if self.packed is None else 'have'} {what}, got {x!r}"
                raise (TypeError if self.packed is None else ValueError)(msg)
            x = x.values
        elif self.packed is not None and not packed_too:
            msg = f"{self.who}(): {name!r} must be a Ragged with the offsets of {self.name!r}, got {describe(x)}"
            raise TypeError(msg)
        host_only(self.who, name, x)
        array, _ = host(self.who, name, x)
        if array.shape != self.shape:
            msg = f"{self.who}(): {name!r} must have shape {self.shape} (= that of {self.name!r}), got {array.shape}"
            raise ValueError(msg) if array.ndim == len(self.shape) else TypeError(msg)
        return array.reshape(-1) if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(-1)

    def read(self, **arrays: Any) -> list[NDArray[Any]]:
        """Token arrays as flat arrays of one float type: float64 if any of them is, else float32.

        Ints and bools take the type of the others; alone they give float64, or float32 from torch.
        """
        flat = {name: self._flat(name, x) for name, x in arrays.items()}
        names = {"float16": "float32", "float32": "float32", "float64": "float64"}
        types = {names.get(x.dtype.name, "") for x in flat.values() if x.dtype.char not in _INTS or not x.size}
        for name, x in flat.items():
            if x.size and x.dtype.name not in names and x.dtype.char not in _INTS:
                msg = f"{self.who}(): {name!r} must hold floats, ints or bools, got {x.dtype}"
                raise TypeError(msg)
        dtype = "float64" if "float64" in types else "float32" if "float32" in types else ""
        dtype = dtype or ("float32" if self.kind.is_torch else "float64")
        return [contiguous(x, dtype) for x in flat.values()]

    def is_per_row(self, x: Any) -> bool:
        """True for one number a row instead of one a token."""
        return rank(self.who, "rewards", x) == 1

    def per_row(self, name: str, x: Any) -> NDArray[np.float64]:
        """One number a row, exactly, float64."""
        values, _ = floats(self.who, name, x, length=self.rows, why="the number of rows")
        return values.astype(np.float64, copy=False)

    def bytes_per_row(self, name: str, x: Any) -> NDArray[np.uint8] | None:
        """An optional mask over the rows."""
        return mask_bytes(self.who, name, x, length=self.rows, why="the number of rows")

    def outputs(
        self, out: Any, dtype: Any, count: int, inputs: Mapping[str, Any]
    ) -> tuple[list[Array], list[NDArray[Any]]]:
        """Arrays for ``count`` results, given or new, and flat views of them; none may share memory with ``inputs``."""
        given = [None] * count if out is None else [out] if count == 1 else out
        if not isinstance(given, (list, tuple)) or len(given) != count:
            msg = f"{self.who}(): 'out' must be {count} arrays, got {describe(out)}"
            raise TypeError(msg)
        like: Any = np.empty(0, dtype)
        if self.kind.is_torch:
            like = sys.modules["torch"].from_numpy(like)
        arrays = []
        for one in given:
            target = one
            if isinstance(one, Ragged):
                self._flat("out", one)
                target = one.values
            if target is not None:
                host_only(self.who, "out", target)
                if is_tensor(target) and target.requires_grad:
                    msg = f"{self.who}(): 'out' requires grad, but no gradient flows through this function"
                    raise ValueError(msg)
            arrays.append(output(self.who, target, self.shape, like))
        views = [(a.numpy() if is_tensor(a) else a).reshape(-1) for a in arrays]
        for i, view in enumerate(views):
            for name, other in inputs.items():
                if isinstance(other, np.ndarray):
                    check_apart(self.who, view, other, name)
            for other in views[:i]:
                check_apart(self.who, view, other, "out")
        return arrays, views

    def wrap(self, array: Array) -> Array:
        """A result in the form of the inputs, on the device of one number a row."""
        if self.kind.device is not None and self.kind.device.type != "cpu":
            array = array.to(self.kind.device)
        return array if self.packed is None else self.packed.with_values(array)


def rank(who: str, name: str, x: Any) -> int:
    """Number of axes; those of a Ragged are rows and tokens."""
    if isinstance(x, Ragged):
        return 2
    if hasattr(x, "shape"):
        return len(x.shape)
    if isinstance(x, (list, tuple)) and len({len(row) for row in x if isinstance(row, (list, tuple))}) > 1:
        msg = f"{who}(): {name!r} has rows of unequal length; use Ragged.from_lists"
        raise TypeError(msg)
    return host(who, name, x)[0].ndim


def lengths_only(who: str, lengths: ArrayLike) -> TokenRows:
    """Packed rows of these lengths, for results that have no token array to be like."""
    checked, _ = integers(who, "lengths", lengths)
    offsets = _core.offsets_from_lengths(who, checked)
    like = Ragged._make(np.empty(int(offsets[-1]), np.float32), offsets)
    return TokenRows.of(who, "lengths", like)
