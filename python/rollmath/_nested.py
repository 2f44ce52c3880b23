"""Nested records, as tree searches log them, into arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Nodes(NamedTuple):
    """Nodes in depth-first preorder; rewards of the leaves in this order."""

    parents: NDArray[np.int64]
    rewards: NDArray[np.float64]
    lengths: NDArray[np.int64] | None
    labels: tuple[Any, ...] | None


class Keys(NamedTuple):
    """Where records keep what."""

    children: str
    reward: str
    tokens: str | None
    text: str | None


class _Reader:
    """Reads one record at a time and remembers enough to name the path to it."""

    def __init__(self, who: str, keys: Keys, *, complete: bool) -> None:
        self.who, self.complete = who, complete
        self.children, self.reward, self.tokens, self.text = keys
        self.parents: list[int] = []
        self.places: list[int] = []
        self.rewards: list[float] = []
        self.lengths: list[int] = []
        self.labels: list[str | None] = []

    def path(self, node: int) -> str:
        """``records[2].children[0]`` of a node."""
        steps: list[str] = []
        while self.parents[node] >= 0:
            steps.append(f".{self.children}[{self.places[node]}]")
            node = self.parents[node]
        return f"records[{self.places[node]}]" + "".join(reversed(steps))

    def read(self, record: Any, parent: int, place: int) -> Sequence[Any]:
        """Appends a node and returns its children."""
        node = len(self.parents)
        self.parents.append(parent)
        self.places.append(place)
        if not isinstance(record, Mapping):
            msg = f"{self.who}(): 'records' must hold mappings, got {type(record).__name__} at {self.path(node)}"
            raise TypeError(msg)
        below, value = record.get(self.children), record.get(self.reward)
        below = () if below is None else below
        if isinstance(below, (str, bytes, Mapping)) or not isinstance(below, Sequence):
            at = f"{self.path(node)}.{self.children}"
            msg = f"{self.who}(): {self.children!r} must be lists of records, got {type(below).__name__} at {at}"
            raise TypeError(msg)
        self._read_reward(node, value, is_leaf=not below)
        if self.tokens is not None:
            self._read_tokens(node, record.get(self.tokens))
        if self.text is not None:
            text = record.get(self.text)
            if text is not None and not isinstance(text, str):
                msg = f"{self.who}(): {self.text!r} must be a string, got {type(text).__name__} at {self.path(node)}"
                raise TypeError(msg)
            self.labels.append(text)
        return below

    def _read_reward(self, node: int, value: Any, *, is_leaf: bool) -> None:
        if not is_leaf:
            # Tables turn what is missing into NaN.
            if value is not None and not (isinstance(value, (float, np.floating)) and np.isnan(value)):
                msg = f"{self.who}(): {self.reward!r} belongs to leaves, got {value!r} at inner node {self.path(node)}"
                raise ValueError(msg)
            return
        if value is not None and not isinstance(value, (Real, np.bool_)):
            msg = f"{self.who}(): {self.reward!r} must be a number, got {type(value).__name__} at {self.path(node)}"
            raise TypeError(msg)
        try:
            number = math.nan if value is None else float(value)
        except OverflowError:
            msg = f"{self.who}(): {self.reward!r} must fit float64, got a larger integer at {self.path(node)}"
            raise ValueError(msg) from None
        if math.isinf(number):
            msg = f"{self.who}(): {self.reward!r} must be finite, got {number} at {self.path(node)}"
            raise ValueError(msg)
        if math.isnan(number) and self.complete:
            what = "missing" if value is None else "NaN"
            fix = "leave the record out, give it a reward, or choose missing='prune'"
            msg = f"{self.who}(): {self.reward!r} is {what} at leaf {self.path(node)}; {fix}"
            raise ValueError(msg)
        self.rewards.append(number)

    def _read_tokens(self, node: int, tokens: Any) -> None:
        if tokens is None and self.parents[node] >= 0:
            msg = f"{self.who}(): {self.tokens!r} is missing at {self.path(node)}; only roots may lack it"
            raise ValueError(msg)
        try:
            if isinstance(tokens, (str, bytes)):
                raise TypeError
            # Arrays without dimensions have a __len__ that raises.
            self.lengths.append(0 if tokens is None else len(tokens))
        except TypeError:
            at = self.path(node)
            msg = f"{self.who}(): {self.tokens!r} must be lists of tokens, got {type(tokens).__name__} at {at}"
            raise TypeError(msg) from None


def flatten(who: str, records: Any, keys: Keys, *, complete: bool) -> Nodes:
    """The nodes of all records, without recursion. Unless ``complete``, a leaf without a reward has NaN."""
    if isinstance(records, Mapping):
        records = [records]
    if isinstance(records, (str, bytes)) or not isinstance(records, Sequence):
        msg = f"{who}(): 'records' must be a mapping or a list of mappings, got {type(records).__name__}"
        raise TypeError(msg)
    reader = _Reader(who, keys, complete=complete)
    path: list[int] = []
    inside: set[int] = set()
    stack = [(record, -1, place, 0) for place, record in reversed(list(enumerate(records)))]
    while stack:
        record, parent, place, depth = stack.pop()
        while len(path) > depth:
            inside.discard(path.pop())
        node = len(reader.parents)
        below = reader.read(record, parent, place)
        if id(record) in inside:
            msg = f"{who}(): 'records' must not contain themselves, but {reader.path(node)} is one of its ancestors"
            raise ValueError(msg)
        path.append(id(record))
        inside.add(id(record))
        stack.extend((below[i], node, i, depth + 1) for i in range(len(below) - 1, -1, -1))
    return Nodes(
        parents=np.array(reader.parents, dtype=np.int64),
        rewards=np.array(reader.rewards, dtype=np.float64),
        lengths=None if keys.tokens is None else np.array(reader.lengths, dtype=np.int64),
        labels=None if keys.text is None else tuple(reader.labels),
    )
