"""Samples that start at nodes of a prefix tree: which of a group extend whose prefix, and which should be ahead.

Sorted by group and, in it, by the depth-first preorder of their prefixes, the samples that extend or equal a prefix are
one interval. So everything here is a sort, a search and sums over intervals, however deep the trie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import ArrayLike, integers
from rollmath._checks import Back, rows
from rollmath.forest import Forest
from rollmath.groups import Groups, as_groups
from rollmath.ops import normalize, up

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: Relations take 16 bytes each; more of them than this is a group that should be split.
MOST_RELATIONS = 1 << 26


class Samples(NamedTuple):
    """The samples of all groups, sorted; every field has one entry a sample in that order."""

    groups: Groups  # of the samples in the caller's order
    order: Ints  # sorted place -> caller's row
    group: Ints
    node: Ints
    begin: Ints  # first sample of the group with the same prefix
    after_same: Ints  # past the last one
    end: Ints  # past the last one that extends the prefix


def finite(who: str, rewards: ArrayLike) -> tuple[NDArray[np.float64], Back]:
    """One reward a sample as float64, and the way back to its kind and float type."""
    x, back = rows(who, "rewards", rewards)
    if not (good := np.isfinite(x)).all():
        bad = int(np.argmin(good))
        msg = f"{who}(): 'rewards' must be finite, got {x[bad]} at index {bad}; leave such samples out"
        raise ValueError(msg)
    return x, back


def attach(who: str, forest: Forest, node: ArrayLike, groups: Groups | ArrayLike | None, n: int) -> Samples:
    """Sorts ``n`` samples that start at ``node``; by default those of one prompt are a group."""
    at, _ = integers(who, "node", node, length=n, why="len(rewards)")
    if n and (at.min() < 0 or at.max() >= forest.n_nodes):
        bad = int(np.argmax((at < 0) | (at >= forest.n_nodes)))
        msg = f"{who}(): 'node' must be from 0 to {forest.n_nodes - 1} (a node of the forest), got {at[bad]}"
        raise ValueError(f"{msg} at index {bad}")
    made = Groups(forest.groups.index[forest.tree[at]]) if groups is None else as_groups(who, groups, length=n)
    rank, past = _intervals(forest)
    wide = np.int64(max(forest.n_nodes, 1))
    key = made.index * wide + rank[at]
    order = np.argsort(key, kind="stable")
    key, at = key[order], at[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    same = np.diff(first, append=n)
    begin = np.repeat(first, same)
    group = made.index[order]
    end = np.searchsorted(key, group * wide + past[at])
    return Samples(made, order, group, at, begin, begin + np.repeat(same, same), end)


def _intervals(forest: Forest) -> tuple[Ints, Ints]:
    """Place of each node in depth-first preorder, and the place after its subtree, whose last node is a leaf."""
    order, rank = forest.order, np.empty(forest.n_nodes, np.int64)
    rank[order] = np.arange(forest.n_nodes)
    is_leaf = np.zeros(forest.n_nodes, dtype=bool)
    is_leaf[rank[forest.leaves]] = True
    leaves_before = np.cumsum(is_leaf) - is_leaf
    last = leaves_before[rank] + forest.leaf_counts - 1
    return rank, np.flatnonzero(is_leaf)[last] + 1


def center(who: str, rewards: NDArray[np.float64], groups: Groups) -> NDArray[np.float64]:
    """Rewards less their group's mean."""
    out = normalize(rewards, groups, center="mean", scale="none", singleton="zero", name="rewards", who=who)
    return np.asarray(out)


def value(samples: Samples, rewards: NDArray[np.float64], baseline: str, success: float) -> NDArray[np.float64]:
    """``V`` of each sample's prefix over the samples that extend or equal it, in the caller's order."""
    begin, end = samples.begin, samples.end
    out = np.empty(len(rewards))
    if baseline == "expectation":
        out[samples.order] = _means(samples, rewards[samples.order])
    else:
        wins = outcomes(samples, rewards, success).wins
        n = wins[end] - wins[begin]
        out[samples.order] = n > 0 if baseline == "optimistic" else n == end - begin
    return out


def _means(samples: Samples, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of ``x`` over the interval of each sample, all sorted.

    Taken by a forest of the intervals, which lie in one another, with the samples as leaves: its sums are the same in
    any order of rows and whatever other groups there are, which those of a running sum would not be.
    """
    first = np.flatnonzero(np.diff(samples.begin, prepend=-1))
    end, prefix = samples.end[first], np.repeat(np.arange(len(first)), np.diff(first, append=len(x)))
    n = np.int64(len(first))
    # Intervals around each one; the innermost is the last before it with one less around.
    around = np.arange(n) - np.searchsorted(np.sort(end), first, side="right")
    levels = np.sort(around * n + np.arange(n))
    inner = levels[np.searchsorted(levels, (around - 1) * n + np.arange(n)) - 1] % max(n, 1)
    tree = Forest.from_parents(np.concatenate([np.where(around > 0, inner, -1), prefix]))
    means: NDArray[np.float64] = np.asarray(up(tree, x, how="leaf_mean"))
    return means[prefix]


def _sums(x: NDArray[Any]) -> NDArray[Any]:
    """Sum of the entries before each place, and of all; of bools as integers."""
    return np.concatenate([np.zeros(1, x.dtype), x]).cumsum()


class Outcome(NamedTuple):
    """Sorted samples by what came of them; ``wins[k]`` of those before place ``k`` succeed."""

    succeeds: NDArray[np.bool_]
    wins: Ints


def outcomes(samples: Samples, rewards: NDArray[np.float64], success: float) -> Outcome:
    """Which samples succeed."""
    succeeds = (rewards >= success)[samples.order]
    return Outcome(succeeds, _sums(succeeds))


def pairs(who: str, samples: Samples, outcome: Outcome) -> tuple[Ints, Ints]:
    """Rows ``(i, j)``: ``i`` fails, ``j`` succeeds from a proper extension of its prefix."""
    fails = np.flatnonzero(~outcome.succeeds)
    first, last = outcome.wins[samples.after_same[fails]], outcome.wins[samples.end[fails]]
    return _join(who, samples, fails, first, last - first, np.flatnonzero(outcome.succeeds))


def triplets(
    who: str, samples: Samples, outcome: Outcome, parents: Ints, *, own_success_clause: bool
) -> tuple[Ints, Ints]:
    """Rows ``(i, j)`` that fail from sibling prefixes, a success below that of ``i`` and none below that of ``j``.

    With the clause neither prefix has a success of its own.
    """
    wins, begin, same, end = outcome.wins, samples.begin, samples.after_same, samples.end
    above = parents[samples.node]
    takes_part = ~outcome.succeeds & (above >= 0)
    if own_success_clause:
        takes_part &= wins[same] == wins[begin]
    reaches = wins[end] > wins[same]
    family = samples.group * np.int64(max(len(parents), 1)) + above
    some, none = np.flatnonzero(takes_part & reaches), np.flatnonzero(takes_part & ~reaches)
    none = none[np.argsort(family[none], kind="stable")]
    first = np.searchsorted(family[none], family[some], side="left")
    last = np.searchsorted(family[none], family[some], side="right")
    return _join(who, samples, some, first, last - first, none)


def _join(who: str, samples: Samples, left: Ints, first: Ints, counts: Ints, right: Ints) -> tuple[Ints, Ints]:
    """Rows of ``(left[k], right[m])`` for the ``counts[k]`` places ``m`` from ``first[k]`` on."""
    total = int(counts.sum())
    if total > MOST_RELATIONS:
        msg = f"{who}(): 'groups' have {total} pairs of samples to put in order, more than {MOST_RELATIONS}"
        raise ValueError(f"{msg}; make smaller groups, or leave out pairs or triplets")
    within = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    partner = right[np.repeat(first, counts) + within]
    return samples.order[np.repeat(left, counts)], samples.order[partner]
