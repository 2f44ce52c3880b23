"""Paths of ids into the nodes of a forest: equal beginnings merge."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, describe, integers
from rollmath.groups import Groups, as_groups
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IDS = (str, bytes, int, uuid.UUID, np.integer, tuple)


class Grown(NamedTuple):
    """Nodes in preorder, the leaf of each path, and an element of each node (-1: it has none)."""

    parents: NDArray[np.int64]
    leaves: NDArray[np.int64]
    element: NDArray[np.int64]


def grow(who: str, ids: NDArray[np.int64], offsets: NDArray[np.int64], trees: Groups, *, rooted: bool) -> Grown:
    """One node a distinct beginning of the paths of a tree; ``rooted``: its first element is the root.

    The core's trie merges the runs that paths have in common; here each run becomes a chain of nodes again.
    """
    firsts = np.ones(len(offsets) - 1, dtype=np.int64) if rooted else None
    core = _core.Preorder.from_sequences(who, ids, offsets, trees._csr, firsts, None)
    run, places = core.lengths, core.places
    assert run is not None
    assert places is not None
    size = np.maximum(run, 1)
    last = np.cumsum(size) - 1
    first = last - size + 1
    parents = np.arange(-1, size.sum() - 1)
    parents[first] = np.where(core.parents < 0, -1, last[core.parents])
    element = np.full(len(parents), -1)
    filled = np.repeat(run > 0, size)
    # Where the run of a node starts in the flat elements, less its number: the elements of a run go on from there.
    shift = offsets[:-1][np.where(run > 0, places[0], 0)] + places[1] - first
    element[filled] = (np.arange(len(parents)) + np.repeat(shift, size))[filled]
    return Grown(parents, last[core.leaves], element)


def read(who: str, paths: Any, separator: str | None) -> tuple[list[Any], NDArray[np.int64]]:
    """The elements of all paths one after another, and where each path starts."""
    if isinstance(paths, (str, bytes)) or not isinstance(paths, (Sequence, np.ndarray)):
        msg = f"{who}(): 'paths' must be a list with one path a rollout, got {describe(paths)}"
        raise TypeError(msg)
    if separator is not None:
        paths = _split(who, paths, separator)
    elif wrong := [i for i, path in enumerate(paths) if not isinstance(path, (list, tuple))]:
        got = paths[wrong[0]]
        fix = "; give separator= to split it" if isinstance(got, str) else ""
        fix = "; call .tolist()" if hasattr(got, "tolist") else fix
        msg = f"{who}(): 'paths' must hold lists or tuples of ids, got {describe(got)} for path {wrong[0]}{fix}"
        raise TypeError(msg)
    offsets = np.zeros(len(paths) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, paths), np.int64, len(paths)), out=offsets[1:])
    return list(chain.from_iterable(paths)), offsets


def _split(who: str, paths: Any, separator: str) -> list[list[str]]:
    if not isinstance(separator, str) or not separator:
        msg = f"{who}(): 'separator' must be a string of at least one character, got {separator!r}"
        raise TypeError(msg) if not isinstance(separator, str) else ValueError(msg)
    for i, path in enumerate(paths):
        if not isinstance(path, str):
            msg = f"{who}(): 'paths' must hold strings where separator= is given, got {describe(path)} for path {i}"
            raise TypeError(msg)
    split = [str.split(path, separator) for path in paths]
    for i, path in enumerate(split):
        if "" in path:
            msg = f"{who}(): 'paths' must not have empty elements, got {paths[i]!r} for path {i}"
            raise ValueError(msg)
    return split


def numbered(who: str, flat: list[Any], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each distinct element. Unlike ids of rows they may be of several types, which never equal."""
    types = set(map(type, flat))
    if wrong := [t for t in types if not issubclass(t, _IDS) or t is bool]:
        at = next(i for i, x in enumerate(flat) if type(x) in wrong)
        got = f"{type(flat[at]).__name__} {_place(offsets, at)}"
        msg = f"{who}(): 'paths' must hold strings, ints, UUIDs or tuples, got {got}"
        raise TypeError(msg)
    ids = flat if len(types) <= 1 else [(x,) for x in flat]
    return np.ascontiguousarray(as_groups(who, ids, name="paths").index)


def element_lengths(
    who: str, lengths: Any, offsets: NDArray[np.int64], element: NDArray[np.int64], node: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Tokens of each node from those of each element of each path, which must agree where paths share an element.

    ``element`` of each node, ``node`` of each element.
    """
    rows: Any = None
    if isinstance(lengths, Ragged):
        rows, lengths = lengths.lengths, lengths.values
    elif isinstance(lengths, (list, tuple)) and lengths and all(isinstance(x, (list, tuple)) for x in lengths):
        rows, lengths = list(map(len, lengths)), list(chain.from_iterable(lengths))
    if rows is not None and not np.array_equal(rows, np.diff(offsets)):
        msg = f"{who}(): 'lengths' must have one number an element of each path, got rows of other lengths"
        raise ValueError(msg)
    given, _ = integers(who, "lengths", lengths, length=len(node), why="the number of elements of all paths")
    if (bad := np.flatnonzero(given < 0)).size:
        msg = f"{who}(): 'lengths' must not be negative, got {given[bad[0]]} {_place(offsets, int(bad[0]))}"
        raise ValueError(msg)
    of_node = np.zeros(len(element), dtype=np.int64)
    of_node[element >= 0] = given[element[element >= 0]]
    if (bad := np.flatnonzero(of_node[node] != given)).size:
        got = f"{of_node[node[bad[0]]]} and then {given[bad[0]]} {_place(offsets, int(bad[0]))}"
        msg = f"{who}(): 'lengths' must agree where paths have an element in common, got {got}"
        raise ValueError(msg)
    return of_node


def _place(offsets: NDArray[np.int64], at: int) -> str:
    path = int(np.searchsorted(offsets, at, side="right")) - 1
    return f"at element {at - offsets[path]} of path {path}"


def trees_of(
    who: str, ids: NDArray[np.int64], offsets: NDArray[np.int64], groups: Groups | ArrayLike | None, *, rooted: bool
) -> tuple[Groups, Groups | None]:
    """The tree of each path, and the groups given for the paths."""
    n = len(offsets) - 1
    given = None if groups is None else as_groups(who, groups, length=n, why="the number of paths")
    if not rooted:
        assert given is not None
        return given, given
    if (empty := np.flatnonzero(np.diff(offsets) == 0)).size:
        fix = "give groups= and root='added' where paths leave the root out"
        msg = f"{who}(): 'paths' must begin with a root, got path {empty[0]} without elements; {fix}"
        raise ValueError(msg)
    first = Groups(np.ascontiguousarray(ids[offsets[:-1]]))
    return (first if given is None else Groups.product(given, first)), given


def named_by_roots(who: str, roots: list[Any]) -> Groups:
    """The groups of trees that their roots name."""
    if len(types := {type(x).__name__: x for x in roots}) > 1:
        got = " and ".join(sorted(types))
        msg = f"{who}(): 'paths' must begin with ids of one type where these name the groups, got {got}; give groups="
        raise TypeError(msg)
    return as_groups(who, roots, name="paths")


def may_merge(who: str, groups: Groups, sampled_jointly: Any, noun: str) -> Groups:
    """Which rollouts may share nodes: those of a group that were sampled jointly."""
    if isinstance(sampled_jointly, (bool, np.bool_)):
        return groups if sampled_jointly else Groups.product(groups, np.arange(len(groups)))
    if sampled_jointly is None or isinstance(sampled_jointly, (str, bytes, int, float)):
        msg = f"{who}(): 'sampled_jointly' must be True, False or one id a {noun}, got {sampled_jointly!r}"
        raise TypeError(msg)
    why = f"the number of {noun}s"
    return Groups.product(groups, as_groups(who, sampled_jointly, length=len(groups), why=why, name="sampled_jointly"))
