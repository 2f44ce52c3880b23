"""Ids of rows: their order, and random words that depend on id and seed alone, whatever row or rank an id is on."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, host, is_tensor
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
#: The lowest int64.
_LOW = -(2**63)


def mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: a bijection of 64 bits whose every output bit depends on every input bit."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)), np.uint64)


def seeded(words: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Random words of these and the seed: other seeds give words that have nothing to do with each other."""
    salt = np.frombuffer(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "<u8").astype(np.uint64)
    with np.errstate(over="ignore"):
        return mixed(mixed(words + _GAMMA) ^ salt)


def unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in (0, 1), odd multiples of 2^-53, of random words."""
    # With one bit more, the half would be rounded away near 1, and the number be 1.
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


@dataclass(frozen=True)
class Uids:
    """One id a row, all different. Without ids, the rows are their own: then the order of the rows matters.

    Attributes:
        rank: place of each row in the ascending order of the ids, int64.
    """

    rank: NDArray[np.int64]
    _ids: NDArray[np.int64] | list[Any]

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """64 bits of each id, the same whatever the other ids are and in every process; not random yet."""
        if isinstance(self._ids, np.ndarray):
            return self._ids.view(np.uint64)
        words = _digests(self._ids)
        # Integers that fit are their own keys also where others do not: a shard may have none that do not.
        own = [i for i, x in enumerate(self._ids) if _fits([x])]
        words[own] = [int(self._ids[i]) % 2**64 for i in own]
        return words

    @classmethod
    def of(
        cls, who: str, uid: Groups | ArrayLike | None, n: int, *, name: str = "uid", why: str = "len(groups)"
    ) -> Uids:
        """Checked ids: ints, strings, bytes, UUIDs or tuples of one type.

        Raises:
            ValueError: a wrong length, or an id twice.
            TypeError: ids of several types, or of a type that has no order.
        """
        if uid is None:
            rows = np.arange(n, dtype=np.int64)
            return cls(rows, rows)
        array, ids = _int_array(who, name, uid), []
        if array is None:
            groups = as_groups(who, uid, length=n, name=name, why=why)
            if groups.n_groups < n:
                _twice(who, name, groups.ids[int(np.argmax(groups.counts > 1))])
            # Groups are numbered as they appear, and each is one row.
            ids = list(groups.ids)
            array = np.array(ids, np.int64) if _fits(ids) else None
        elif len(array) != n:
            msg = f"{who}(): {name!r} must have length {n} (= {why}), got {len(array)}"
            raise ValueError(msg)
        if array is None:
            return cls(_ranked(_sorted(who, name, ids), n), ids)
        # Ids are all different, so that any algorithm sorts them alike; the fastest is not stable.
        order = np.argsort(array)
        if len(twice := np.flatnonzero(np.diff(array[order]) == 0)):
            _twice(who, name, int(array[order[twice[0]]]))
        return cls(_ranked(order, n), array)

    def words(self, seed: int) -> NDArray[np.uint64]:
        """A random word of each id."""
        return seeded(self.keys, seed)


def _int_array(who: str, name: str, uid: Any) -> NDArray[np.int64] | None:
    """Integers that come as a 1-D array; None for all else, which Groups reads."""
    if not is_tensor(uid) and not isinstance(uid, np.ndarray):
        return None
    array, _ = host(who, name, uid)
    if array.ndim != 1 or array.dtype.kind not in "iu" or (array.dtype == np.uint64 and (array >> np.uint64(63)).any()):
        return None
    return np.ascontiguousarray(array, np.int64)


def _fits(ids: list[Any]) -> bool:
    return bool(ids) and isinstance(ids[0], (int, np.integer)) and all(_LOW <= x < -_LOW for x in ids)


def _twice(who: str, name: str, uid: object) -> None:
    msg = f"{who}(): {name!r} must name each row once, got {uid!r} twice"
    raise ValueError(msg)


def _sorted(who: str, name: str, ids: list[Any]) -> list[int]:
    try:
        return sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError as error:
        msg = f"{who}(): {name!r} must be ids that have an order, but {error}; make strings of them"
        raise TypeError(msg) from None


def _ranked(order: Any, n: int) -> NDArray[np.int64]:
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    return rank


def _digests(ids: list[Any]) -> NDArray[np.uint64]:
    types = set(map(type, ids))
    if types == {tuple}:
        types = set(map(type, chain.from_iterable(ids)))
    own = ids if types <= {str, bytes, uuid.UUID, int} else map(_plain, ids)
    parts = [hashlib.blake2b(repr(x).encode("utf-8", "surrogatepass"), digest_size=8).digest() for x in own]
    return np.frombuffer(b"".join(parts), "<u8").astype(np.uint64)


def _plain(x: Any) -> Any:
    """Python's own types, since the repr of others that are equal (NumPy's, enums, named tuples) is not the same."""
    if isinstance(x, tuple):
        return tuple(_plain(part) for part in x)
    if isinstance(x, str):
        return str.__str__(x)
    return int(x) if isinstance(x, (int, np.integer)) else x
