"""Scores of tokens in whatever form they come: their rows, what may be chosen, and the names that break ties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, describe, floats, host, is_tensor
from rollmath._checks import real, whole
from rollmath._token_rows import TokenRows, rank
from rollmath.ops._device_rows import DeviceRows, moved, rows_of
from rollmath.ops._hash import Uids
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: Share, count (one of them is not None) and the least number, as the core takes them.
Wanted = tuple[float | None, int | None, int]
#: More tokens than there are anywhere, and few enough for int64.
_ALL = 1 << 62


def wanted(who: str, share: Any, count: Any, least: Any) -> Wanted:
    """How many tokens to choose.

    Raises:
        ValueError: both or neither of share and count; out of range; ``least`` beside a count.
        TypeError: wrong types.
    """
    if (share is None) == (count is None):
        msg = f"{who}(): give either 'share' or 'count', got share={share!r} and count={count!r}"
        raise ValueError(msg)
    low = min(whole(who, "least", least, least=0), _ALL)
    if count is not None:
        if low:
            msg = f"{who}(): 'least' goes with 'share', got count={count!r} and least={least!r}"
            raise ValueError(msg)
        return None, min(whole(who, "count", count), _ALL), 0
    return real(who, "share", share, 0.0, 1.0), None, low


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of one call. A flat array is one row, or with ids of its tokens one row a token."""

    who: str
    name: str
    rows: TokenRows | DeviceRows
    x: Any
    uid: Any
    #: Shape of a flat array; None for rows.
    flat: tuple[int, ...] | None

    @classmethod
    def of(cls, who: str, name: str, x: Any, *, mask: Any = None, lengths: Any = None, uid: Any = None) -> TokenBatch:
        """Of the token array ``x``, which others have to be like."""
        flat = None
        if is_tensor(x) and x.is_nested:
            msg = f"{who}(): {name!r} must be packed, padded or flat, got a nested tensor; give Ragged(values, offsets)"
            raise TypeError(msg)
        if not isinstance(x, Ragged) and rank(who, name, x) == 1:
            if lengths is not None:
                msg = f"{who}(): 'lengths' goes with padded arrays, but {name!r} is flat; make packed rows a Ragged"
                raise ValueError(msg)
            x = x if is_tensor(x) else host(who, name, x)[0]
            flat = (len(x), 1) if uid is not None else (1, len(x))
            x, mask = x.reshape(flat), _row(who, "mask", mask, flat, name)
        return cls(who, name, rows_of(who, name, x, mask=mask, lengths=lengths), x, uid, flat)

    @property
    def on_device(self) -> bool:
        """Whether torch does the work, where the tokens are."""
        return isinstance(self.rows, DeviceRows)

    @property
    def host(self) -> TokenRows:
        """The rows on the host."""
        assert isinstance(self.rows, TokenRows)
        return self.rows

    @property
    def device(self) -> DeviceRows:
        """The rows elsewhere."""
        assert isinstance(self.rows, DeviceRows)
        return self.rows

    def named(self, x: Any, name: str) -> Any:
        """Another token array in the form of the first: a flat one as rows."""
        return x if self.flat is None else _row(self.who, name, x, self.flat, self.name)

    def per_row(self, x: Any, name: str) -> bool:
        """Whether ``x`` has one number a row instead of one a token."""
        return self.flat is None and rank(self.who, name, x) == 1

    @cached_property
    def scores(self) -> Any:
        """The array, flat, float32 or float64."""
        read: Any = self.rows.read(**{self.name: self.x})[0]
        return read if isinstance(self.rows, TokenRows) else self._flat_floats(read)

    def _flat_floats(self, x: torch.Tensor) -> Any:
        torch = self.device.torch
        return x.reshape(-1).to(torch.float64 if x.dtype == torch.float64 else torch.float32)

    def weights(self, x: Any, name: str) -> tuple[Any, Any, bool]:
        """Scores and a second array of one float type, and whether that has one number a row."""
        if not self.per_row(x, name):
            both: Any = self.rows.read(**{self.name: self.x, name: self.named(x, name)})
            if isinstance(self.rows, DeviceRows):
                dtype = self.rows.result_dtype(*both)
                both = [column.reshape(-1).to(dtype) for column in both]
            return both[0], both[1], False
        scores, values = self.scores, self._per_row(x, name)
        if isinstance(self.rows, DeviceRows):
            dtype = self.rows.result_dtype(scores, values)
            return scores.to(dtype), values.to(dtype), True
        wide = np.result_type(scores.dtype, values.dtype)
        return scores.astype(wide, copy=False), values.astype(wide, copy=False), True

    def _per_row(self, x: Any, name: str) -> Any:
        """One number a row, of the same float type on the host and on a device."""
        rows = self.rows
        if not isinstance(rows, DeviceRows):
            why = f"the number of rows; of one a rollout take {name}[rows.rollouts.index]"
            return floats(self.who, name, x, length=rows.rows, why=why)[0]
        values, torch = rows.per_row(name, x), rows.torch
        if not rows.is_here(x):
            return values.to(getattr(torch, floats(self.who, name, x)[0].dtype.name))
        return values if x.is_floating_point() else values.to(torch.float32)

    def negative(self, x: Any, name: str) -> Any:
        """Where a second array, one number a token or one a row, is below 0, flat."""
        if self.per_row(x, name):
            return self.spread(self._per_row(x, name) < 0)
        read: Any = self.rows.read(**{name: self.named(x, name)})[0]
        return read.reshape(-1) < 0

    def spread(self, values: Any) -> Any:
        """One value a row at all positions, flat."""
        if isinstance(self.rows, DeviceRows):
            return values[self.row_of]
        packed, shape = self.rows.packed, self.rows.shape
        return np.repeat(values, shape[1] if packed is None else packed.lengths)

    def only(self, keep: Any) -> TokenBatch:
        """With no other tokens than these, flat bools."""
        rows = self.rows
        if isinstance(rows, DeviceRows):
            both = keep if rows.mask is None else (rows.mask.reshape(-1) != 0) & keep
            return replace(self, rows=replace(rows, mask=both.reshape(rows.shape)))
        both = keep if rows.mask is None else (rows.mask != 0) & keep
        return replace(self, rows=replace(rows, mask=np.ascontiguousarray(both).view(np.uint8)))

    def with_scores(self, x: Any) -> TokenBatch:
        """The same tokens with other scores, flat, float64."""
        made = replace(self)
        made.__dict__["scores"] = x
        return made

    # The names of tokens.

    @cached_property
    def uids(self) -> Uids:
        """One id a row; of Rows rollout id and segment."""
        uid, n = self.uid, self.rows.rows
        if isinstance(uid, Rows):
            ids = uid.rollouts.ids
            pairs = zip(uid.rollouts.index.tolist(), uid.segment.tolist(), strict=True)
            uid = [(ids[i], segment) for i, segment in pairs]
        return Uids.of(self.who, uid, n, why="the number of rows")

    def words(self, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None]:
        """A random word of each row, and positions of tokens that were taken through a mask."""
        packed = self.rows.packed
        return self.uids.words(seed), None if packed is None else packed.positions

    # On a device.

    @cached_property
    def trained(self) -> Any:
        """Positions that may be chosen, flat bools on the device; a NaN may not."""
        rows, torch = self.device, self.device.torch
        seen = ~self.scores.isnan()
        if rows.mask is not None:
            seen = seen & (rows.mask.reshape(-1) != 0)
        if rows.lengths is not None:
            columns = torch.arange(rows.shape[1], device=rows.device)
            seen = seen & (columns < rows.lengths[:, None]).reshape(-1)
        return seen

    @cached_property
    def starts(self) -> Any:
        """Where the rows begin, on the device."""
        rows, torch = self.device, self.device.torch
        if rows.offsets is None:
            return torch.arange(rows.rows, device=rows.device) * rows.shape[1]
        return rows.offsets[:-1]

    @cached_property
    def row_of(self) -> Any:
        """The row of each position, on the device."""
        rows, torch = self.device, self.device.torch
        places = torch.arange(rows.rows if rows.offsets is None else rows.shape[0], device=rows.device)
        if rows.offsets is None:
            return places[:, None].expand(rows.shape).reshape(-1)
        return torch.searchsorted(rows.offsets, places, right=True) - 1

    # Results.

    def result(self, mask: Any) -> Array:
        """Flat bools in the form and kind of the scores."""
        shape = self.rows.shape if self.flat is None else (self.flat[0] * self.flat[1],)
        if isinstance(self.rows, DeviceRows):
            return self.rows.wrap(mask.reshape(shape))
        return self.rows.wrap(self.rows.kind.wrap(mask.view(bool).reshape(shape)))

    def number(self, x: Any) -> Array:
        """Numbers of the kind of the scores."""
        return x if isinstance(self.rows, DeviceRows) else self.rows.kind.wrap(np.asarray(x))

    def moved(self, x: NDArray[Any]) -> torch.Tensor:
        """A host array where the tokens are, bits of words as int64."""
        return moved(x.view(np.int64) if x.dtype == np.uint64 else x, self.device.device)


def _row(who: str, name: str, x: Any, shape: tuple[int, ...], like: str) -> Any:
    """A flat array as rows."""
    if x is None:
        return None
    if isinstance(x, Ragged):
        msg = f"{who}(): {name!r} must be 1-D as {like!r} is, got {x!r}"
        raise TypeError(msg)
    array = x if is_tensor(x) else host(who, name, x)[0]
    if len(array.shape) != 1:
        msg = f"{who}(): {name!r} must be 1-D as {like!r} is, got {describe(array)}"
        raise TypeError(msg)
    n = shape[0] * shape[1]
    if len(array) != n:
        msg = f"{who}(): {name!r} must have length {n} (= that of {like!r}), got {len(array)}"
        raise ValueError(msg)
    return array.reshape(shape)
