"""One value a rollout on each rank, as it is sent, and put together again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rollmath._arrays import _FLOATS, _INTS, ArrayLike, describe, host, is_tensor
from rollmath.distributed._exchange import by_rank
from rollmath.groups import Groups, _restore, as_groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ID_TYPES = (str, bytes, uuid.UUID, tuple)
_PLAIN = {str, bytes, uuid.UUID}


@dataclass(frozen=True)
class Column:
    """What a rank sends of one argument; the numbers of a tensor as NumPy has them, bfloat16 widened."""

    #: "none", "numbers" or "ids".
    form: str
    n: int
    #: A list, whose type nobody chose: empty, it takes that of the others, and its ints go with their floats.
    soft: bool = False
    #: Of numbers: the type of the device of a tensor; None for NumPy.
    device: str | None = None
    #: Of numbers the dtype, of ids their type; as messages have them.
    type: str = ""
    values: Any = None
    #: Of ids: the place in ``values`` of each row's.
    index: Any = None
    #: Of ids: given as a Groups.
    made: bool = False

    @property
    def label(self) -> str:
        """Its type in words."""
        if self.form == "none":
            return "None"
        if self.form == "ids":
            return f"ids of type {self.type}"
        return f"a {'NumPy array' if self.device is None else 'torch tensor'} of {self.type}"


def numbers(who: str, name: str, x: ArrayLike, n: int) -> Column:
    """Of numbers, ``[n, ...]``."""
    if isinstance(x, Ragged):
        msg = (
            f"{who}(): {name!r} must have one value a rollout, got a Ragged: tokens are not gathered; compute returns "
            "on each rank and take distributed.whiten"
        )
        raise TypeError(msg)
    array, kind = host(who, name, x)
    if array.dtype.char not in _INTS and array.dtype.name not in _FLOATS and array.size:
        msg = f"{who}(): {name!r} must hold floats, ints or bools, got {array.dtype}"
        raise TypeError(msg)
    if not array.ndim:
        msg = f"{who}(): {name!r} must have one value a rollout, got {describe(x)}"
        raise TypeError(msg)
    if len(array) != n:
        msg = f"{who}(): {name!r} must have length {n} (= len(groups)), got {len(array)}"
        raise ValueError(msg)
    dtype = str(x.dtype).removeprefix("torch.") if is_tensor(x) else array.dtype.name
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    soft = not is_tensor(x) and not isinstance(x, np.ndarray)
    return Column("numbers", n, soft, None if kind.device is None else kind.device.type, dtype, native)


def ids(who: str, name: str, x: Groups | ArrayLike, n: int | None = None) -> Column:
    """Of ids: each once, and which of them each row has."""
    made = as_groups(who, x, length=n, name=name, why="len(groups)")
    names: Any = list(made.ids)
    kind = next((t.__name__ for t in _ID_TYPES if names and isinstance(names[0], t)), "int" if names else "")
    if kind == "int":
        # Whatever holds them: Python, NumPy and torch integers name the same groups.
        names = [int(key) for key in names]
        if min(names) >= -(2**63) and max(names) < 2**63:
            names = np.array(names, np.int64)
    elif not {type(key) for key in names} <= _PLAIN:
        names = [_plain(key) for key in names]
    given = isinstance(x, Groups)
    return Column("ids", len(made), not given, None, kind, names, made.index.astype(np.int32), given)


def _plain(key: Any) -> Any:
    """An id without a class of its own, which another rank need not have."""
    if isinstance(key, tuple):
        return tuple(_plain(part) for part in key)
    if isinstance(key, uuid.UUID):
        return uuid.UUID(int=key.int)
    if isinstance(key, (str, bytes)):
        # str() of a subclass may say something else.
        return (str if isinstance(key, str) else bytes).__getitem__(key, slice(None))  # type: ignore[index]
    return int(key)


def column(who: str, name: str, x: Any, n: int) -> Column:
    """Of what may be None, numbers or ids."""
    if x is None:
        return Column("none", n)
    is_list = isinstance(x, (list, tuple)) and len(x) and isinstance(x[0], _ID_TYPES)
    if isinstance(x, Groups) or is_list or (isinstance(x, np.ndarray) and x.dtype.kind in "OUST"):
        return ids(who, name, x, n)
    return numbers(who, name, x, n)


def merged(who: str, name: str, parts: list[Column]) -> Any:
    """The rows of all ranks, in the order of ranks, of the kind that they have there.

    Raises:
        TypeError: ranks with another kind or type. A rank without rows agrees with all.
        ValueError: ranks with another shape.
    """
    if all(part.form == "none" for part in parts):
        return None
    if any(part.form == "none" for part in parts):
        raise _differ(who, name, dict(enumerate(parts)), "; give it on all of them")
    telling = {number: part for number, part in enumerate(parts) if part.n}
    if not telling:
        # Nowhere a row: the type of the first that has one.
        first = next((number for number, part in enumerate(parts) if not part.soft), 0)
        telling = {first: parts[first]}
    if {part.form for part in telling.values()} == {"ids"}:
        return _merged_ids(who, name, telling)
    if len({(part.form, part.device is None) for part in telling.values()}) > 1:
        raise _differ(who, name, telling)
    return _merged_numbers(who, name, telling)


def _differ(who: str, name: str, parts: Mapping[int, Column], fix: str = "") -> TypeError:
    seen = {number: part.label for number, part in parts.items()}
    return TypeError(f"{who}(): {name!r} must be of one type on all ranks, got {by_rank(seen)}{fix or '; convert it'}")


def _merged_numbers(who: str, name: str, parts: Mapping[int, Column]) -> Any:
    shapes = {number: part.values.shape[1:] for number, part in parts.items()}
    if len(set(shapes.values())) > 1:
        seen = {number: str(["N", *shape]).replace("'", "") for number, shape in shapes.items()}
        msg = f"{who}(): {name!r} must have one shape on all ranks, got {by_rank(seen)}"
        raise ValueError(msg)
    types = {part.type for part in parts.values()}
    # Lists of 0s and 1s among lists of fractions are the same numbers.
    listed = {part.type for part in parts.values() if part.soft}
    if len(types) > 1 and not (types == {"int64", "float64"} and "int64" in listed and _only_lists(parts, "int64")):
        raise _differ(who, name, parts)
    whole: NDArray[Any] = np.concatenate([part.values for part in parts.values()])
    return whole if next(iter(parts.values())).device is None else torch.from_numpy(whole)


def _only_lists(parts: Mapping[int, Column], dtype: str) -> bool:
    return all(part.soft for part in parts.values() if part.type == dtype)


def _merged_ids(who: str, name: str, parts: Mapping[int, Column]) -> Groups | list[Any]:
    if len({part.type for part in parts.values()}) > 1:
        raise _differ(who, name, parts, "; equal ids must be equal objects: convert them all")
    if all(isinstance(part.values, np.ndarray) for part in parts.values()):
        whole = np.concatenate([part.values[part.index] for part in parts.values()])
        return Groups(whole)
    # Numbered by first appearance, rank after rank, as on one process.
    table: dict[Any, int] = {}
    index = []
    for part in parts.values():
        names = part.values.tolist() if isinstance(part.values, np.ndarray) else part.values
        place = np.array([table.setdefault(key, len(table)) for key in names], np.int64)
        index.append(place[part.index])
    return _restore(np.concatenate(index), tuple(table))
