"""Keys of steps: columns of states and actions as dense numbers, equal where keys are equal within a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, describe, host, is_tensor
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray


def number_keys(
    who: str, scope: Groups, columns: Mapping[str, ArrayLike]
) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Columns of one kind of key, one element a row of ``scope`` each, numbered together within each of its groups.

    Returns:
        The number of the key of each row for each column (int64, numbers of different groups of ``scope`` differ), and
        the rank of each number: a permutation that sorts by group of ``scope``, then by the key itself, so that within
        a group it does not depend on the order of the rows.
    """
    read = [_readable(who, name, column) for name, column in columns.items()]
    for (name, _), column in zip(columns.items(), read, strict=True):
        if len(column) != len(scope):
            msg = f"{who}(): {name!r} must have length {len(scope)} (= the number of rows), got {len(column)}"
            raise ValueError(msg)
    groups = as_groups(who, _joined(read), name=next(iter(columns)))
    twice = Groups(np.tile(scope.index, len(read)))
    numbers = Groups.product(twice, groups)
    place = {key: at for at, key in enumerate(sorted({repr(key) for key in groups.ids}))}
    keys = np.array([place[repr(key)] for key in groups.ids], np.int64)
    rank = np.empty(numbers.n_groups, np.int64)
    rank[np.lexsort((keys[groups.index[numbers.first]], twice.index[numbers.first]))] = np.arange(numbers.n_groups)
    return dict(zip(columns, numbers.index.reshape(len(read), len(scope)), strict=True)), rank


def _readable(who: str, name: str, column: ArrayLike) -> Any:
    """What :class:`Groups` takes: rows of an array as bytes, messages as canonical JSON."""
    if isinstance(column, Groups):
        return column.index
    if is_tensor(column) or isinstance(column, np.ndarray):
        array, _ = host(who, name, column)
        if array.ndim < 2:
            return column
        flat = np.ascontiguousarray(array.reshape(len(array), -1))
        flat = flat + 0 if flat.dtype.kind == "f" else flat  # -0.0 is 0.0
        return [row.tobytes() for row in flat]
    if isinstance(column, (str, bytes, Mapping)) or not hasattr(column, "__iter__"):
        msg = f"{who}(): {name!r} must be a sequence with one key a row, got {describe(column)}"
        raise TypeError(msg)
    values = list(column)
    if values and isinstance(values[0], (dict, list)):
        return [json.dumps(v, sort_keys=True, separators=(",", ":")) for v in values]
    return values


def _joined(columns: list[Any]) -> Any:
    if len(columns) == 1:
        return columns[0]
    if all(isinstance(c, np.ndarray) for c in columns):
        return np.concatenate(columns)
    return [x for c in columns for x in c]
