"""Keys of steps: columns of states and actions as dense numbers, equal where keys are equal within a task."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, contiguous, describe, frozen, host, integers, is_tensor
from rollmath._checks import listed
from rollmath.groups import Groups

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
    read = [_readable(who, name, column, len(scope)) for name, column in columns.items()]
    numbers, rank = _core.step_keys(who, scope._csr, read)
    return dict(zip(columns, numbers, strict=True)), rank


def _readable(who: str, name: str, column: ArrayLike, n: int) -> tuple[Any, ...]:
    """What the core takes: objects, or bytes with their type and width, and which of them each row has."""
    if isinstance(column, Groups):
        # By its ids: its numbers depend on the order of the rows, and are not those of another Groups.
        _check_length(who, name, len(column), n)
        return name, column.ids, "", 0, column.index
    if is_tensor(column) or isinstance(column, np.ndarray):
        array, _ = host(who, name, column)
        if array.ndim == 0:
            msg = f"{who}(): {name!r} must have one key a row, got {describe(array)}"
            raise TypeError(msg)
        _check_length(who, name, len(array), n)
        if array.dtype.kind not in "OUST":
            return _bytes(who, name, array)
        column = array.tolist()
    elif not isinstance(column, (list, tuple)):
        column = listed(who, repr(name), column, "a sequence with one key a row")
    _check_length(who, name, len(column), n)
    return name, column, "", 0, None


def _bytes(who: str, name: str, array: NDArray[Any]) -> tuple[Any, ...]:
    """Rows of an array as bytes that are equal where the numbers are."""
    if array.ndim == 1:
        if array.dtype.kind not in "iu":
            msg = f"{who}(): {name!r} must be integers if it is a 1-D array, got {array.dtype}; round them, or pass ids"
            raise TypeError(msg)
        return name, integers(who, name, array)[0].view(np.uint8), "int", 8, None
    # Not long double, whose padding has no value.
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        msg = f"{who}(): {name!r} must hold integers, bools or floats of at most 64 bits, got {array.dtype}"
        raise TypeError(msg)
    flat = contiguous(array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0))
    native = flat.dtype.newbyteorder("=")
    if array.dtype.kind == "f":
        flat = flat.astype(native, copy=False) + native.type(0)  # -0.0 becomes 0.0
        missing = np.isnan(flat)
        if missing.any():
            row = int(missing.any(axis=1).argmax())
            at = (row, *(int(i) for i in np.unravel_index(missing[row].argmax(), array.shape[1:])))
            msg = f"{who}(): {name!r} must not have NaN, which equals nothing, got one at {list(at)}"
            raise ValueError(msg)
    elif array.dtype.kind == "b":
        flat = flat.view(np.uint8) != 0
    flat = flat.astype(native, copy=False)
    kind = f"rows of {flat.dtype} and shape {array.shape[1:]}"
    width = flat.shape[1] * flat.dtype.itemsize
    if not width:
        return name, [()] * len(array), "", 0, None
    return name, flat.reshape(-1).view(np.uint8), kind, width, None


def _check_length(who: str, name: str, got: int, n: int) -> None:
    if got != n:
        msg = f"{who}(): {name!r} must have length {n} (= the number of rows), got {got}"
        raise ValueError(msg)


# Trajectories.


def tasks_of(who: str, trajectories: Groups, groups: Groups) -> tuple[Groups, Groups]:
    """The task of each row and of each trajectory."""
    if len(groups) == len(trajectories):
        first = groups.index[trajectories.first]
        if len(split := np.flatnonzero(groups.index != first[trajectories.index])):
            row = int(split[0])
            at = trajectories.index[row]
            msg = (
                f"{who}(): 'groups' must be one a trajectory, but trajectory {trajectories.ids[at]!r} is in "
                f"{groups.ids[first[at]]!r} and, at row {row}, in {groups.ids[groups.index[row]]!r}; if trajectories "
                "of different groups have the same id, pass trajectory=Groups.product(groups, trajectory)"
            )
            raise ValueError(msg)
        return groups, groups.take(trajectories.first)
    if len(groups) == trajectories.n_groups:
        return groups.take(trajectories.index), groups
    msg = (
        f"{who}(): 'groups' must have length {len(trajectories)} (= the number of rows) or {trajectories.n_groups} "
        f"(= the number of trajectories), got {len(groups)}"
    )
    raise ValueError(msg)


def in_time(who: str, trajectories: Groups, step: ArrayLike) -> NDArray[np.int64]:
    """Rows by trajectory and time."""
    time, _ = integers(who, "step", step, length=len(trajectories), why="the number of rows")
    order = np.lexsort((time, trajectories.index))
    same = (np.diff(trajectories.index[order]) == 0) & (np.diff(time[order]) == 0)
    if same.any():
        at = int(np.argmax(same))
        name = trajectories.ids[trajectories.index[order[at]]]
        msg = (
            f"{who}(): 'step' must not repeat in a trajectory, but {name!r} has {time[order[at]]} at rows {order[at]} "
            f"and {order[at + 1]}"
        )
        raise ValueError(msg)
    return frozen(order)


def episodes(who: str, name: str, lists: Any) -> list[Any]:
    """One list a trajectory, or one array of at least two dimensions."""
    if isinstance(lists, (str, bytes, Mapping, Set)) or not hasattr(lists, "__iter__"):
        msg = f"{who}(): {name!r} must be a list with one list a trajectory, got {describe(lists)}"
        raise TypeError(msg)
    out = []
    for i, episode in enumerate(lists):
        array = is_tensor(episode) or isinstance(episode, np.ndarray)
        if isinstance(episode, (str, bytes, Mapping, Set)) or not (array or hasattr(episode, "__iter__")):
            msg = f"{who}(): {name!r} must hold one list a trajectory, got {describe(episode)} at index {i}"
            raise TypeError(msg)
        read = host(who, name, episode)[0] if array else episode
        if array and read.ndim == 0:
            msg = f"{who}(): {name!r} must hold one list a trajectory, got {describe(read)} at index {i}"
            raise TypeError(msg)
        out.append(read if array and read.ndim > 1 else list(episode.tolist() if array else episode))
    return out


def joined(who: str, name: str, lists: list[Any]) -> Any:
    """All steps one after another."""
    arrays = [episode for episode in lists if isinstance(episode, np.ndarray)]
    if not arrays:
        return [x for episode in lists for x in episode]
    shapes = {a.shape[1:] for a in arrays} | {None for x in lists if not isinstance(x, np.ndarray) and x}
    if len(shapes) > 1:
        first = arrays[0].shape[1:]
        msg = f"{who}(): {name!r} must be arrays with rows of one shape, got rows of shape {first} and others"
        raise ValueError(msg)
    return np.concatenate(arrays)


# Results.


def unnamed(csr: _core.Csr) -> Groups:
    """Groups whose ids are their numbers."""
    index = csr.index
    groups = Groups._make(csr, lambda row: int(index[row]))
    groups._fill(index=frozen(index))
    return groups
