"""What :class:`~rollmath.Rows` does with its arguments: every kind of column becomes packed, read-only and host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import (
    ArrayLike,
    Kind,
    contiguous,
    describe,
    floats,
    frozen,
    host,
    host_only,
    integers,
    is_tensor,
    to_bytes,
)
from rollmath.groups import Groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_KINDS = {"integers": "iu", "floats": "f"}


def nested(name: str, x: ArrayLike | None) -> ArrayLike | None:
    """A list of lists as a Ragged; anything else as it is."""
    if isinstance(x, (list, tuple)) and x and (isinstance(x[0], (list, tuple)) or getattr(x[0], "shape", ())):
        # Tensors are read here, where one that is elsewhere or requires grad can be named.
        parts: list[Any] = [_on_host(f"{name}[{row}]", part) if is_tensor(part) else part for row, part in enumerate(x)]
        try:
            return Ragged.from_lists(parts)
        except (TypeError, ValueError) as cause:
            msg = f"Rows(): {name!r} as a list of lists: {cause}"
            raise type(cause)(msg) from None
    return x


def lengths_of(lengths: ArrayLike | None, sources: Mapping[str, Any], n_rows: int) -> NDArray[np.int64]:
    """The given lengths, or those of the first source that is a Ragged."""
    if lengths is None:
        for name, x in sources.items():
            if isinstance(x, Ragged):
                _check_rows(name, len(x), n_rows)
                return x.lengths
        msg = "Rows(): 'lengths' is needed unless 'tokens' or 'mask' is a Ragged or a list of lists"
        raise ValueError(msg)
    checked, _ = integers("Rows", "lengths", lengths)
    _check_rows("lengths", len(checked), n_rows)
    return checked


def segments_of(rollouts: Groups, segment: ArrayLike | None) -> NDArray[np.int64]:
    """The given numbers, or that of each row among the rows of its rollout."""
    if segment is not None:
        given, _ = integers("Rows", "segment", segment, length=len(rollouts), why="the number of rows")
        return frozen(given.copy())
    counted = np.empty(len(rollouts), dtype=np.int64)
    counted[rollouts.order] = np.arange(len(rollouts)) - np.repeat(rollouts.offsets[:-1], rollouts.counts)
    return frozen(counted)


def marks_of(mask: ArrayLike | None, offsets: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    """The mask as bytes 0 and 1."""
    if mask is None:
        return None
    marks = to_bytes("Rows", "mask", _packed("mask", mask, offsets))
    return frozen((marks != 0).view(np.uint8))


def column_of(
    name: str, x: ArrayLike | None, offsets: NDArray[np.int64], kind: Literal["integers", "floats"]
) -> Ragged | None:
    """A column over the positions, with the offsets of the rows."""
    if x is None:
        return None
    return Ragged(_checked(name, _packed(name, x, offsets), kind), offsets)


def prompts_of(x: ArrayLike | None, n_rows: int) -> Ragged | None:
    """The prompts, which have offsets of their own."""
    if x is None:
        return None
    if not isinstance(x, Ragged):
        msg = f"Rows(): 'prompts' must be a Ragged or a list with one list a row, got {describe(x)}"
        raise TypeError(msg)
    _check_rows("prompts", len(x), n_rows)
    values = _on_host("prompts", x.values)
    return Ragged(_checked("prompts", values, "integers"), x.offsets)


def payloads_of(payload: Mapping[str, Any] | None, offsets: NDArray[np.int64]) -> dict[str, Any]:
    """Every payload over the positions."""
    if payload is None:
        return {}
    if not isinstance(payload, Mapping):
        msg = f"Rows(): 'payload' must be a mapping from names to values, got {describe(payload)}"
        raise TypeError(msg)
    for name in payload:
        if not isinstance(name, str):
            msg = f"Rows(): the names in 'payload' must be strings, got {name!r}"
            raise TypeError(msg)
    return {name: _payload(name, x, offsets) for name, x in payload.items()}


def _payload(name: str, x: Any, offsets: NDArray[np.int64]) -> Any:
    """An array ``[positions, ...]``, or a tuple with one object a position."""
    if isinstance(x, Ragged):
        _check_offsets(f"payload[{name!r}]", x, offsets)
        x = x.values
    if is_tensor(x) or isinstance(x, np.ndarray):
        values: Any = _read_only(_on_host(f"payload[{name!r}]", x))
        got = len(values) if values.ndim else 0
    elif isinstance(x, (list, tuple)):
        values, got = tuple(x), len(x)
    else:
        msg = f"Rows(): payload {name!r} must be a Ragged, an array [positions, ...] or a list, got {describe(x)}"
        raise TypeError(msg)
    if got != offsets[-1]:
        msg = f"Rows(): payload {name!r} must have length {offsets[-1]} (= positions), got {got}"
        raise ValueError(msg)
    return values


def copied(who: str, name: str, x: ArrayLike) -> tuple[NDArray[Any], Kind]:
    """Numbers of any shape that are copied and not computed with: float16 and bfloat16 widen, all else is kept."""
    array, kind = host(who, name, x)
    if array.dtype.name == "float16":
        return array.astype(np.float32), kind
    if array.size and array.dtype.kind not in "iub":
        floats(who, name, array.reshape(-1)[:1])
    return array, kind


def collapsed(who: str, rollouts: Groups, segment: NDArray[np.int64], values: NDArray[Any], how: str) -> NDArray[Any]:
    """One of, or a number from, the values of the rows of each rollout."""
    if how in {"sum", "mean"} or (how in {"min", "max"} and values.dtype.kind == "f"):
        wide = contiguous(values, values.dtype if values.dtype.kind == "f" else np.float64)
        return _core.reduce(who, "x", rollouts._csr, wide, None, how).astype(wide.dtype, copy=False)
    if how in {"min", "max"}:
        reduce = np.minimum if how == "min" else np.maximum
        exact: NDArray[Any] = reduce.reduceat(values[rollouts.order], rollouts.offsets[:-1]) if len(values) else values
        return exact
    order = np.lexsort((segment, rollouts.index))
    ends = rollouts.offsets[1:] - 1 if how == "last" else rollouts.offsets[:-1]
    out: NDArray[Any] = values[order[ends]]
    if how != "same":
        # The row beside the end; of a rollout of one row that is a row of another, or none.
        beside = np.clip(ends + (1 if how == "first" else -1), 0, max(len(order) - 1, 0))
        tied = (segment[order[beside]] == segment[order[ends]]) & (rollouts.counts > 1)
        if tied.any():
            at = int(np.flatnonzero(tied)[0])
            rows = sorted((int(order[ends[at]]), int(order[beside[at]])))
            msg = (
                f"{who}(): how={how!r} needs one {how} row, but rollout {rollouts.ids[at]!r} has rows {rows[0]} and "
                f"{rows[1]} of segment {segment[rows[0]]}; number the rows with segment="
            )
            raise ValueError(msg)
    else:
        spread = out[rollouts.index]
        differ = (values != spread) & ((values == values) | (spread == spread))  # noqa: PLR0124 - NaN is NaN
        if differ.any():
            row = int(np.flatnonzero(differ)[0])
            name = rollouts.ids[rollouts.index[row]]
            msg = (
                f"{who}(): 'x' must be the same for all rows of a rollout, but rollout {name!r} has "
                f"{spread[row]} and {values[row]} (row {row}); say how= to choose or combine"
            )
            raise ValueError(msg)
    return out


def picked_rows(rows: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Row numbers of an index array or of a bool array."""
    array, _ = host("Rows.take", "rows", rows)
    if array.dtype == bool:
        if array.shape != (n_rows,):
            msg = f"Rows.take(): 'rows' as bools must have shape ({n_rows},) (= n_rows), got {array.shape}"
            raise ValueError(msg)
        return np.flatnonzero(array)
    picked, _ = integers("Rows.take", "rows", array)
    if len(picked) and (picked.min() < -n_rows or picked.max() >= n_rows):
        msg = f"Rows.take(): 'rows' must be in [{-n_rows}, {n_rows}) (= n_rows), got {picked.min()} to {picked.max()}"
        raise ValueError(msg)
    wrapped: NDArray[np.int64] = np.where(picked < 0, picked + n_rows, picked)
    return wrapped


def flat_positions(offsets: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the positions of some rows, row after row."""
    sizes = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    flat: NDArray[np.int64] = np.arange(total) + np.repeat(offsets[rows] - ends + sizes, sizes)
    return flat


def _on_host(name: str, x: ArrayLike) -> NDArray[Any]:
    host_only("Rows", name, x)
    return host("Rows", name, x)[0]


def _packed(name: str, x: ArrayLike, offsets: NDArray[np.int64]) -> NDArray[Any]:
    total = int(offsets[-1])
    if isinstance(x, Ragged):
        _check_offsets(name, x, offsets)
        return _on_host(name, x.values)
    array = _on_host(name, x)
    if array.ndim == 2:
        _check_rows(name, len(array), len(offsets) - 1)
        lengths = np.diff(offsets)
        width = int(lengths.max()) if len(lengths) else 0
        if array.shape[1] < width:
            msg = f"Rows(): {name!r} must have at least {width} columns (= the longest row), got {array.shape[1]}"
            raise ValueError(msg)
        packed: NDArray[Any] = array[np.arange(array.shape[1]) < lengths[:, None]]
        return packed
    if array.shape != (total,):
        msg = (
            f"Rows(): {name!r} must have shape ({total},) (= positions) or ({len(offsets) - 1}, T) (= padded), "
            f"got {array.shape}"
        )
        raise ValueError(msg)
    return array


def _check_offsets(name: str, x: Ragged, offsets: NDArray[np.int64]) -> None:
    _check_rows(name, len(x), len(offsets) - 1)
    if not np.array_equal(x.offsets, offsets):
        row = int(np.flatnonzero(np.diff(x.offsets) != np.diff(offsets))[0])
        expected, got = int(np.diff(offsets)[row]), int(x.lengths[row])
        msg = f"Rows(): {name!r} must have the lengths of the rows: row {row} has {expected} positions, got {got}"
        raise ValueError(msg)


def _check_rows(name: str, got: int, n_rows: int) -> None:
    if got != n_rows:
        msg = f"Rows(): {name!r} must have length {n_rows} (= the number of rows), got {got}"
        raise ValueError(msg)


def _checked(name: str, values: NDArray[Any], kind: str) -> NDArray[Any]:
    if values.size and values.dtype.kind not in _KINDS[kind]:
        msg = f"Rows(): {name!r} must hold {kind}, got {values.dtype}"
        raise TypeError(msg)
    return _read_only(values)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written through; the caller's own array stays as it is."""
    return frozen(values.view())
