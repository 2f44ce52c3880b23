"""Options: an immutable table, so that what holds one can be compared, hashed and pickled."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from rollmath._arrays import Immutable


class Options(Immutable, Mapping[str, Any]):
    """Named options; lists become tuples, tables become Options, NumPy scalars become Python's.

    >>> Options({"blend": 0.8, "levels": [0.1, 0.9]})
    {'blend': 0.8, 'levels': (0.1, 0.9)}
    """

    _items: dict[str, Any]

    def __init__(self, items: Mapping[str, Any] | None = None) -> None:
        self._fill(_items={str(name): fixed(value) for name, value in (items or {}).items()})

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Options, (self._items,)


def fixed(value: Any) -> Any:
    """A value that cannot change: tuples for lists, Options for tables, Python's numbers for NumPy's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return Options(value)
    # The lists of configuration packages are sequences of their own types.
    if isinstance(value, (list, tuple)) or type(value).__name__ == "ListConfig":
        return tuple(fixed(item) for item in value)
    return value


def nearest(name: str, known: Iterable[str], most: int = 20) -> str:
    """The known names for an error message, those like ``name`` first, and of many the first ``most``."""
    names = sorted(known)
    like = difflib.get_close_matches(str(name).lower(), [n.lower() for n in names], n=3, cutoff=0.5)
    first = [n for wanted in like for n in names if n.lower() == wanted]
    ordered = list(dict.fromkeys([*first, *names]))
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(map(repr, ordered[:most])) + more if ordered else "none"
