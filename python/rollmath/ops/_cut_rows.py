"""Rows of tokens that are cut into segments: which tokens count, and what cuts have to be like.

A cut at ``c`` is the prefix up to and including position ``c`` of its row, -1 the bare prompt. The last trained token
of a row is never cut after: nothing would follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import describe, integers, is_tensor
from rollmath._checks import real, whole
from rollmath._token_rows import TokenRows, lengths_only
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How far above 0 a log-probability may be: logits minus their log-sum-exp leave a residue of rounding.
_RESIDUE = 1e-4


@dataclass(frozen=True)
class CutRows:
    """The rows of a call: where each begins in the flat arrays, the columns it uses, and which tokens are trained."""

    rows: TokenRows
    begin: NDArray[np.int64]
    size: NDArray[np.int64]
    #: Flat, one a position; None if every position is a trained token.
    trained: NDArray[np.bool_] | None

    @classmethod
    def of(cls, who: str, name: str, x: Any, *, mask: Any = None, lengths: Any = None) -> CutRows:
        """Of the token array ``x``, as :class:`TokenRows` takes it."""
        rows = TokenRows.of(who, name, x, mask=mask, lengths=lengths)
        if rows.packed is not None:
            offsets = rows.packed.offsets
            begin, size = offsets[:-1], np.diff(offsets)
            inside = None
        else:
            count, width = rows.shape
            begin = np.arange(count) * width
            size = np.full(count, width) if lengths is None else integers(who, "lengths", lengths)[0]
            inside = None if lengths is None else (np.arange(width) < size[:, None]).reshape(-1)
        trained = inside
        if rows.mask is not None:
            trained = rows.mask != 0
            if inside is not None:
                trained &= inside
        return cls(rows, begin, size, trained)

    @classmethod
    def of_lengths(cls, who: str, lengths: Any, mask: Any) -> CutRows:
        """Of a mask, or of lengths alone."""
        if mask is not None:
            return cls.of(who, "mask", mask, mask=mask, lengths=lengths)
        if lengths is None:
            msg = f"{who}(): 'lengths' or 'mask' is needed, which say what the rows are"
            raise ValueError(msg)
        rows = lengths_only(who, lengths).like_kind(integers(who, "lengths", lengths)[1])
        assert rows.packed is not None
        return cls(rows, rows.packed.offsets[:-1], rows.packed.lengths, None)

    @property
    def who(self) -> str:
        """The public function."""
        return self.rows.who

    @cached_property
    def at(self) -> NDArray[np.int64]:
        """Flat places of the trained tokens."""
        return np.arange(math.prod(self.rows.shape)) if self.trained is None else np.flatnonzero(self.trained)

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """Where the trained tokens of each row begin among all of them, and their number at the end, ``[B + 1]``."""
        if self.trained is None:
            return np.append(self.begin, math.prod(self.rows.shape))
        return np.append(np.searchsorted(self.at, self.begin), len(self.at))

    @cached_property
    def last(self) -> NDArray[np.int64]:
        """Position of the last trained token of each row, -1 if it has none."""
        if self.trained is None:
            return self.size - 1
        there = np.diff(self.first) > 0
        last = np.full(len(self.begin), -1)
        last[there] = self.at[self.first[1:][there] - 1] - self.begin[there]
        return last

    def only(self, keep: NDArray[np.bool_]) -> CutRows:
        """With those trained tokens alone."""
        return replace(self, trained=keep if self.trained is None else keep & self.trained)

    def place(self, at: int) -> str:
        """Row and position of a place in the flat arrays."""
        row = int(np.searchsorted(self.begin, at, side="right")) - 1
        return f"row {row}, position {at - self.begin[row]}"

    def logprobs(self, x: Any) -> NDArray[Any]:
        """Log-probabilities as a flat array, checked at the trained tokens."""
        (flat,) = self.rows.read(logprobs=x)
        bad = ~(flat <= _RESIDUE)
        if self.trained is not None:
            bad &= self.trained
        if bad.any():
            i = int(bad.argmax())
            got = "NaN" if np.isnan(flat[i]) else f"{flat[i]:g}"
            msg = f"{self.who}(): 'logprobs' must be at most 0 and not NaN, got {got} at {self.place(i)}"
            if not np.isnan(flat[i]):
                msg += "; of probabilities take the logarithm"
            raise ValueError(msg)
        return flat

    def per_row(self, name: str, x: Any) -> NDArray[np.int64]:
        """A whole number of at least 1: one for all rows, or one a row."""
        if getattr(x, "shape", None) == () or not (hasattr(x, "shape") or isinstance(x, (list, tuple))):
            x = x.item() if is_tensor(x) or isinstance(x, np.ndarray) else x
            return np.full(len(self.begin), min(whole(self.who, name, x), 2**62))
        n, _ = integers(self.who, name, x, length=len(self.begin), why="the number of rows")
        if len(n) and n.min() < 1:
            i = int(n.argmin())
            msg = f"{self.who}(): {name!r} must be at least 1, got {n[i]} at row {i}"
            raise ValueError(msg)
        return n

    def cuts(
        self, row: NDArray[np.int64], position: NDArray[np.int64], *, include_prompt: bool, per_row: bool = False
    ) -> Ragged:
        """Cuts in order of rows and positions; ``row`` is the row of each, or with ``per_row`` how many each has."""
        counts = row if per_row else np.bincount(row, minlength=len(self.begin))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        if include_prompt:
            begins = offsets[:-1]
            has = counts > 0
            has[has] = position[begins[has]] == -1
            add = (self.last >= 0) & ~has
            position = np.insert(position, begins[add], -1)
            offsets = offsets + np.concatenate([[0], np.cumsum(add)])
        return Ragged(self.rows.kind.wrap(position.astype(np.int64, copy=False)), offsets)

    def read_cuts(self, cuts: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions and offsets of cuts that fit the rows."""
        who = self.who
        if not isinstance(cuts, Ragged):
            msg = f"{who}(): 'cuts' must be a Ragged of positions, one row a row of tokens, got {describe(cuts)}"
            raise TypeError(msg)
        if len(cuts) != len(self.begin):
            msg = f"{who}(): 'cuts' must have {len(self.begin)} rows (= those of {self.rows.name!r}), got {len(cuts)}"
            raise ValueError(msg)
        c, _ = integers(who, "cuts", cuts.values)
        row = np.repeat(np.arange(len(cuts)), cuts.lengths)
        low = np.full(len(c), -1)
        again = np.flatnonzero(row[1:] == row[:-1]) + 1
        low[again] = c[again - 1] + 1
        if (bad := c < low).any():
            i = int(bad.argmax())
            must = "at least -1" if low[i] == -1 else "ascending"
            msg = f"{who}(): 'cuts' must be {must} in each row, got {c[i]}{_after(c, low, i)} in row {row[i]}"
            raise ValueError(msg)
        if (bad := c >= self.last[row]).any():
            i = int(bad.argmax())
            last = f"the last trained token, {self.last[row[i]]}" if self.last[row[i]] >= 0 else "a trained token"
            fix = "cut with the same mask and lengths"
            msg = f"{who}(): 'cuts' must be before {last} in row {row[i]}, got {c[i]}; {fix}"
            raise ValueError(msg)
        return c, cuts.offsets

    def segment_lengths(self, cuts: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of each segment, one more a row than it has cuts; the last one of a row takes its padding, too."""
        count = len(self.begin)
        ends = np.empty(len(cuts) + count, np.int64)
        own = np.arange(len(cuts)) + np.repeat(np.arange(count), np.diff(offsets))
        stops = np.append(self.begin, math.prod(self.rows.shape))
        ends[own] = cuts + 1 + np.repeat(self.begin, np.diff(offsets))
        ends[offsets[1:] + np.arange(count)] = stops[1:]
        return np.diff(ends, prepend=0)


def _after(c: NDArray[np.int64], low: NDArray[np.int64], i: int) -> str:
    return "" if low[i] == -1 else f" after {c[i - 1]}"


def log_threshold(who: str, threshold: object, dtype: Any) -> Any:
    """The logarithm of a probability, both rounded to the float type of what is compared with it.

    So the log of a probability that equals the threshold is equal to this, which one in float64 is not to a float32.
    """
    p = np.dtype(dtype).type(real(who, "threshold", threshold, 0.0, 1.0))
    with np.errstate(divide="ignore"):
        return np.log(p)
