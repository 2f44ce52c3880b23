"""Methods on trees in a recipe: the forest of the rows, numbers of nodes at tokens, and tokens that train once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, describe
from rollmath._columns import flat_positions
from rollmath.forest import Forest, as_forest
from rollmath.groups import Groups
from rollmath.ops import down
from rollmath.ragged import Ragged
from rollmath.recipes._call import called, length, picked, scattered, where
from rollmath.recipes._method import OF_FOREST, Method
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_level(who: str, method: Method, level: Any) -> None:
    """Raises unless it is known what a method on trees gives one number of."""
    if level is not None:
        choice(who, "level", level, ("node", "rollout"))
    msg = ""
    if not method.on_forest:
        if level is not None:
            msg = f"{who}(): 'level' is for methods with a parameter 'forest', and {method.name!r} has none"
    elif level is None and method.level is None:
        msg = (
            f"{who}(): 'level' must be given, 'node' or 'rollout': what {method.name!r}, which takes a forest, gives "
            "one number of"
        )
    elif None not in {level, method.level} and level != method.level:
        msg = f"{who}(): 'level' must be {method.level!r} (= what {method.name!r} gives one number of), got {level!r}"
    if msg:
        raise ValueError(msg)
    for name in ("rows", "mask", "lengths"):
        if method.on_forest and getattr(method.parameters.get(name), "default", None) is inspect.Parameter.empty:
            msg = f"{who}(): 'method' {method.name!r} takes a forest and {name!r}; a method takes one of them"
            raise TypeError(msg)


def forest_of(who: str, rows: Rows | None, groups: Groups, columns: Mapping[str, Any], *, tokens: bool) -> Forest:
    """The forest that was given, checked against the rows, or that of their tokens.

    Args:
        who: for messages.
        rows: the rows, None if there are none.
        groups: of the rollouts.
        columns: ``forest``, ``paths`` and ``path_lengths``, or ``sampled_jointly``, if they were given.
        tokens: whether nodes must have the tokens of the rows.

    Raises:
        ValueError: neither a forest nor tokens; a forest of other rollouts, groups or tokens.
        TypeError: no forest.
    """
    given = {name: x for name in OF_FOREST if (x := columns.get(name)) is not None}
    _check_ways(who, given)
    if "forest" not in given and "paths" not in given:
        return _of_tokens(who, rows, groups, given)
    forest = as_forest(who, given["forest"]) if "forest" in given else _of_paths(who, groups, **given)
    if forest.n_leaves != len(groups):
        msg = f"{who}(): 'forest' must have {len(groups)} rollouts (= len(groups)), got {forest.n_leaves}"
        raise ValueError(msg)
    if not np.array_equal(forest.rollout_groups.index, groups.index):
        at = int(np.argmax(forest.rollout_groups.index != groups.index))
        msg = (
            f"{who}(): 'forest' must have the groups of the rollouts, but rollout {at}, here in group "
            f"{groups.ids[groups.index[at]]!r}, is with others there; its rollouts must be in the order of "
            "rows.rollouts.ids, and its groups (one a tree) are Forest.from_parents(groups=...)"
        )
        raise ValueError(msg)
    if tokens and rows is not None:
        _places(who, forest, rows)
    return forest


def prefixes_of(who: str, groups: Groups, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The forest of prefixes, and the node of each rollout in it: as they were given, or from paths of prefixes."""
    given = {name: x for name in ("forest", "paths", "node") if (x := columns.get(name)) is not None}
    if "paths" not in given:
        for name in ("forest", "node"):
            if name not in given:
                msg = f"{who}(): a method on prefixes needs 'forest' and 'node', or 'paths'; {name!r} is missing"
                raise ValueError(msg)
        return {"forest": as_forest(who, given["forest"]), "node": given["node"]}
    if len(given) > 1:
        msg = f"{who}(): 'paths' say what forest and nodes are; give them, or 'forest' and 'node'"
        raise ValueError(msg)
    forest = _of_paths(who, groups, given["paths"])
    assert forest.labels is not None
    if forest.n_leaves != len(groups):
        msg = f"{who}(): 'paths' must have length {len(groups)} (= len(groups)), got {forest.n_leaves}"
        raise ValueError(msg)
    # A prefix of another one has a leaf of its own below, which is no element.
    bare = np.array([forest.labels[leaf] is None for leaf in forest.leaves.tolist()], bool)
    return {"forest": forest, "node": np.where(bare, forest.parents[forest.leaves], forest.leaves)}


def _check_ways(who: str, given: Mapping[str, Any]) -> None:
    ways = [name for name in given if name != "path_lengths"]
    if len(ways) > 1:
        msg = (
            f"{who}(): {ways[0]!r} and {ways[1]!r} both say what the forest is; give one of them ('sampled_jointly' is "
            "for a forest that is made of the tokens of the rows)"
        )
        raise ValueError(msg)
    if "path_lengths" in given and "paths" not in given:
        msg = f"{who}(): 'path_lengths' are those of 'paths'; give both"
        raise ValueError(msg)


def _of_paths(who: str, groups: Groups, paths: Any, path_lengths: Any = None) -> Forest:
    # Trainers hold lists in arrays of objects.
    paths, path_lengths = (x.tolist() if isinstance(x, np.ndarray) else x for x in (paths, path_lengths))
    try:
        return Forest.from_paths(paths, groups=groups, root="first", lengths=path_lengths)
    except (TypeError, ValueError) as wrong:
        text = str(wrong).replace("Forest.from_paths()", f"{who}()", 1)
        raise type(wrong)(text.replace("'lengths'", "'path_lengths'")) from None


def copies_of(forest: Forest, paths: Any) -> NDArray[np.bool_] | None:
    """Rollouts with the path of an earlier one, for which that one stands; None if there are none."""
    if paths is None:
        return None
    assert forest.labels is not None
    # Those that end inside another path, or where one ends, have a leaf of their own there, which is no element.
    at = np.flatnonzero([forest.labels[leaf] is None for leaf in forest.leaves.tolist()])
    first = np.unique(forest.parents[forest.leaves[at]], return_index=True)[1]
    out = np.zeros(forest.n_leaves, bool)
    out[np.delete(at, first)] = True
    return out if out.any() else None


def _of_tokens(who: str, rows: Rows | None, groups: Groups, options: Mapping[str, Any]) -> Forest:
    fix = "pass forest=..., a rollmath.Forest of the rollouts"
    if rows is None or rows.tokens is None:
        msg = f"{who}(): a method on trees needs 'forest', or 'rows' with tokens to make it of (Rows(..., tokens=...))"
        raise ValueError(f"{msg}; {fix}")
    if rows.n_rows != rows.n_rollouts:
        msg = (
            f"{who}(): 'rows' must have one row a rollout where the forest is made of their tokens, got {rows.n_rows} "
            f"rows of {rows.n_rollouts} rollouts"
        )
        raise ValueError(f"{msg}; {fix}")
    return Forest.from_sequences(rows.tokens.values, rows.offsets, groups=groups, **options)


def of_forest(
    who: str,
    method: Method,
    per_node: bool,
    rewards: ArrayLike,
    given: dict[str, Any],
    groups: Groups,
    rows: Rows | None,
    valid: NDArray[np.bool_] | None,
) -> Any:
    """What the method gives: one number a rollout, or the numbers of nodes at their tokens.

    It sees the forest of the rollouts that take part; all others get 0, and so do nodes that only they have.
    """
    whole: Forest = given["forest"]
    if method.on_prefixes:
        return _of_prefixes(who, method, rewards, given, groups, valid)
    given = {name: x for name, x in given.items() if name not in OF_FOREST}
    forest, at = whole, np.arange(whole.n_nodes if per_node else whole.n_leaves)
    if valid is not None:
        forest, report = whole.prune(valid)
        chosen = report.kept_rollouts
        at = report.kept_nodes if per_node else chosen
        given = {name: picked(x, chosen) if length(x) == whole.n_leaves else x for name, x in given.items()}
        rewards = picked(rewards, chosen)
    values = called(method, {"rewards": rewards, "forest": forest, "groups": forest.rollout_groups}, given)
    if not per_node:
        return _counted(who, method, values, at, "rollout", whole.n_leaves)
    values = _counted(who, method, values, at, "node of the forest", whole.n_nodes)
    if rows is None:
        msg = f"{who}(): advantage {method.name!r} needs 'rows', whose tokens are those of the nodes; pass rows=..."
        raise ValueError(msg)
    found = _at_tokens(who, whole, values, rows)
    if valid is None:
        return found
    return Ragged(where(np.repeat(valid[rows.rollouts.index], rows.lengths), found.values), rows.offsets)


def _of_prefixes(
    who: str,
    method: Method,
    rewards: ArrayLike,
    given: dict[str, Any],
    groups: Groups,
    valid: NDArray[np.bool_] | None,
) -> Any:
    """One number a rollout from the whole forest, whose nodes are where they start."""
    n = len(groups)
    chosen = np.arange(n) if valid is None else np.flatnonzero(valid)
    given = {name: picked(x, chosen) if name != "forest" and length(x) == n else x for name, x in given.items()}
    values = called(method, {"rewards": picked(rewards, chosen), "groups": groups.take(chosen)}, given)
    return _counted(who, method, values, chosen, "rollout", n)


def _counted(who: str, method: Method, values: Any, at: NDArray[np.int64], what: str, n: int) -> Any:
    """The numbers of a method at their places among ``n``."""
    found = getattr(values, "level", None)
    if found in {"node", "rollout"} and not what.startswith(found):
        msg = f"{who}(): 'level' of the advantage {method.name!r} must be {found!r}, which its options make"
        raise ValueError(msg)
    values = values[0] if isinstance(values, tuple) else values
    if isinstance(values, Ragged) or length(values) != len(at):
        msg = (
            f"{who}(): advantage {method.name!r} must give one number a {what}, {len(at)}, got {describe(values)} of "
            f"length {length(values)}"
        )
        raise ValueError(msg)
    return scattered(values, at, n)


def _at_tokens(who: str, forest: Forest, values: Array, rows: Rows) -> Ragged:
    """One number a node, at the trained tokens of all rollouts that contain it; 0 at gaps."""
    places, there = _places(who, forest, rows), forest.expand(values, per="rollout").values
    there = there if places is None else scattered(there, places, int(rows.offsets[-1]))
    return Ragged(there if rows.mask is None else where(rows.mask != 0, there), rows.offsets)


def _places(who: str, forest: Forest, rows: Rows) -> NDArray[np.int64] | None:
    """The positions in the rows of ``forest.expand(x, per="rollout")``; None if they are all, in order.

    A rollout has the tokens of its rows, by their segments: all positions, or those that train.
    """
    if forest.lengths is None:
        fix = "make it with lengths= or spans=, or of token sequences"
        msg = f"{who}(): 'forest' must know the number of tokens of each node; {fix}"
        raise ValueError(msg)
    sizes = forest.expand(np.zeros(forest.n_nodes, bool), per="rollout").lengths
    every = np.bincount(rows.rollouts.index, rows.lengths, rows.n_rollouts).astype(np.int64)
    gaps = not np.array_equal(sizes, every)
    if gaps and not np.array_equal(sizes, rows.trained_of_rollout):
        at = int(np.argmax(sizes != every))
        msg = (
            f"{who}(): 'forest' must have the tokens of the rows, but its rollout {at} has {sizes[at]} and "
            f"{rows.rollouts.ids[at]!r} has {every[at]} positions, {rows.trained_of_rollout[at]} of them trained; "
            "tokens of a root are the prompt, not positions"
        )
        raise ValueError(msg)
    if rows.n_rows == rows.n_rollouts:
        return np.flatnonzero(rows.mask) if gaps and rows.mask is not None else None
    order = np.lexsort((rows.segment, rows.rollouts.index))
    places = flat_positions(rows.offsets, order)
    return places[rows.mask[places] != 0] if gaps and rows.mask is not None else places


def trained_once(who: str, forest: Forest, rows: Rows, kept: Rows) -> Ragged:
    """Which positions stay if each token of the forest trains once: in the first rollout that is kept and trains it.

    Args:
        who: for messages.
        forest: of the rows.
        rows: as they were given.
        kept: the same rows without those of rollouts that were dropped.
    """
    sizes = np.asarray(forest.lengths).copy()
    sizes[forest.roots] = 0
    # The number of a token: where its node starts, and how far in the node it is.
    before = np.asarray(down(forest, sizes, how="sum")).astype(np.int64) - sizes
    first = forest.expand(np.cumsum(sizes) - sizes - before, per="rollout")
    n = np.arange(len(first.values))
    token = first.values + n - np.repeat(first.offsets[:-1], first.lengths)
    places = _places(who, forest, rows)
    places = n if places is None else places
    live = np.ones(len(n), bool) if kept.mask is None else kept.mask[places] != 0
    copies, where = token[live], places[live]
    # Of equal indices the last assignment counts, so that the first copy is written last.
    chosen = np.full(int(sizes.sum()), -1)
    chosen[copies[::-1]] = where[::-1]
    out = np.zeros(int(rows.offsets[-1]), bool)
    out[chosen[chosen >= 0]] = True
    return Ragged(out, rows.offsets)
