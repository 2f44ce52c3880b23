"""Prompts by id: their positions, and what is wrong with an id."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice, host, integers, is_tensor
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Whether prompts are named by their ids, or by their positions in the order in which they were given.
By: TypeAlias = Literal["id", "position"]
#: Ids as they are kept: integers as an array.
Ids: TypeAlias = "NDArray[np.int64] | list[Any]"

_INT64 = np.iinfo(np.int64)


class PromptIndex:
    """Ids of one type, all different. Integers stay an array; ``0 .. n - 1`` in order are their own positions."""

    def __init__(self, who: str, ids: Ids) -> None:
        self.ids = ids
        self._order: NDArray[np.int64] | None = None
        self._places: dict[Any, int] = {}
        if isinstance(ids, list):
            self._places = dict(zip(ids, range(len(ids)), strict=True))
            if len(self._places) < len(ids):
                _twice(who, next(x for i, x in enumerate(ids) if self._places[x] != i))
        elif not np.array_equal(ids, np.arange(len(ids))):
            self._order = np.argsort(ids, kind="stable")
            self._sorted = ids[self._order]
            if len(twice := np.flatnonzero(self._sorted[1:] == self._sorted[:-1])):
                _twice(who, int(self._sorted[twice[0]]))

    @classmethod
    def of(cls, who: str, prompts: Groups | ArrayLike) -> PromptIndex:
        """Of checked ids.

        Raises:
            ValueError: an id twice.
            TypeError: ids of several types, or of a type that is not an id.
        """
        return cls(who, _read(who, prompts))

    def __len__(self) -> int:
        return len(self.ids)

    def extended(self, who: str, prompts: Groups | ArrayLike) -> PromptIndex:
        """With more ids after these."""
        new = self._alike(who, _read(who, prompts))
        if isinstance(self.ids, list) or isinstance(new, list):
            return PromptIndex(who, [*_listed(self.ids), *_listed(new)])
        return PromptIndex(who, np.concatenate([self.ids, new]))

    def name(self, position: Any) -> Any:
        """The id at a position, as a Python object."""
        return _plain(self.ids[position])

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.int64] | tuple[Any, ...]:
        """The ids at these positions: an array if they are integers."""
        if isinstance(self.ids, list):
            return tuple(map(self.ids.__getitem__, positions.tolist()))
        return self.ids[positions]

    def saved(self) -> Ids:
        """The ids in a list or array of its own."""
        return self.ids.copy()

    def differs_from(self, other: PromptIndex) -> int | None:
        """The first position at which the ids are not those of ``other``, which has at most as many."""
        mine, theirs = self.ids[: len(other)], other.ids
        if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
            differ = mine != theirs
        else:
            pairs = zip(mine, theirs, strict=True)
            differ = np.array([a != b for a, b in pairs], bool)
        return int(np.argmax(differ)) if differ.any() else None

    def find(
        self, who: str, prompts: Groups | ArrayLike, by: By = "id", *, name: str = "prompts", once: bool = False
    ) -> NDArray[np.int64]:
        """Position of each; ``once`` if none may be named twice.

        Raises:
            ValueError: an id that is not known, a position that does not exist.
            TypeError: ids of another type.
        """
        choice(who, "by", by, ("id", "position"))
        if by == "position":
            at, _ = integers(who, name, prompts)
            if len(bad := np.flatnonzero((at < 0) | (at >= len(self)))):
                msg = f"{who}(): {name!r} must be positions below {len(self)}, got {at[bad[0]]} at index {bad[0]}"
                raise ValueError(msg)
        else:
            asked = self._alike(who, _read(who, prompts, name), name)
            at, known = self._lookup(asked)
            if len(bad := np.flatnonzero(~known)):
                msg = (
                    f"{who}(): {name!r} must be known, got {_plain(asked[bad[0]])!r} at index {bad[0]}; add() it first"
                )
                raise ValueError(msg)
        if once:
            in_order = np.sort(at)
            if len(twice := np.flatnonzero(in_order[1:] == in_order[:-1])):
                _twice(who, self.name(in_order[twice[0]]), name)
        return at

    def _lookup(self, ids: Ids) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        if isinstance(ids, list):
            at = np.fromiter(map(self._places.get, ids, repeat(-1)), np.int64, len(ids))
            return at, at >= 0
        if isinstance(self.ids, list) or not len(self):
            return ids, np.zeros(len(ids), bool)
        if self._order is None:
            return ids, (ids >= 0) & (ids < len(self))
        at = self._order[np.minimum(np.searchsorted(self._sorted, ids), len(self) - 1)]
        return at, self.ids[at] == ids

    def _alike(self, who: str, ids: Ids, name: str = "prompts") -> Ids:
        """The ids as these are kept, if they are of the same type."""
        types = _type(self.ids), _type(ids)
        if None not in types and types[0] is not types[1]:
            known, got = (t.__name__ for t in types if t is not None)
            msg = f"{who}(): {name!r} must have ids of the type of those known, {known}, got {got}"
            raise TypeError(msg)
        # Integers past int64 are kept in a list, where others must be looked up, too.
        return _listed(ids) if isinstance(self.ids, list) and self.ids else ids


def _read(who: str, prompts: Groups | ArrayLike, name: str = "prompts") -> Ids:
    """Ids in rows: integers that fit as an array of our own."""
    if isinstance(prompts, range) and all(_INT64.min <= x <= _INT64.max for x in (*prompts[:1], *prompts[-1:])):
        return np.arange(prompts.start, prompts.stop, prompts.step, dtype=np.int64)
    if isinstance(prompts, (list, tuple)):
        # Most often they are what they should be, and need not be told apart here.
        types = set(map(type, prompts))
        if len(types) == 1 and not types.isdisjoint((str, bytes, uuid.UUID)):
            return list(prompts)
        if types == {int}:
            return _integers(prompts)
    if is_tensor(prompts) or isinstance(prompts, np.ndarray):
        array, _ = host(who, name, prompts)
        if array.ndim == 1 and array.dtype.kind in "iu" and not (array.size and array.max() > _INT64.max):
            return np.array(array, np.int64)
    groups = as_groups(who, prompts, name=name)
    known = groups.ids
    ids = list(known) if groups.n_groups == len(groups) else [known[g] for g in groups.index.tolist()]
    return _integers([int(x) for x in ids]) if _type(ids) in (int, None) else ids


def _integers(ids: Sequence[Any]) -> Ids:
    try:
        return np.array(ids, np.int64)
    except OverflowError:
        return list(ids)


def _type(ids: Sequence[Any] | NDArray[Any]) -> type | None:
    if not len(ids):
        return None
    return int if isinstance(ids[0], (int, np.integer)) else type(ids[0])


def _listed(ids: Ids) -> list[Any]:
    return ids if isinstance(ids, list) else ids.tolist()


def _plain(x: Any) -> Any:
    return x.item() if isinstance(x, np.generic) else x


def _twice(who: str, prompt: Any, name: str = "prompts") -> None:
    msg = f"{who}(): {name!r} must all be different, got {_plain(prompt)!r} twice"
    raise ValueError(msg)
