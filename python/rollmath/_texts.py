"""Texts of which some begin with others, as tree searches list them, into the nodes of a forest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import describe, floats, frozen
from rollmath._layout import PruneReport
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TextsReport(NamedTuple):
    """What :meth:`Forest.from_prefix_texts` made of the texts; ``print`` it.

    Attributes:
        nodes: node of each text, int64 ``[n_texts]``; -1 where it was pruned.
        n_nodes: number of nodes before pruning.
        merged: number of texts that were equal to an earlier one of their group.
        added_roots: number of groups that got a root with the empty text.
        pruned: what ``missing="prune"`` dropped, in the numbers of the nodes before; else None.
    """

    nodes: NDArray[np.int64]
    n_nodes: int
    merged: int
    added_roots: int
    pruned: PruneReport | None

    def __str__(self) -> str:
        head = (
            f"{len(self.nodes)} texts made {self.n_nodes} nodes; equal to an earlier text: {self.merged}, "
            f"added roots: {self.added_roots}"
        )
        return head if self.pruned is None else f"{head}\n{self.pruned}"


class Texts(NamedTuple):
    """Nodes: the distinct texts by first appearance, then the added roots; rewards of the leaves by node."""

    parents: NDArray[np.int64]
    groups: Groups
    labels: tuple[str, ...]
    rewards: NDArray[np.float64] | None
    report: TextsReport


def read(who: str, texts: Any, groups: Any, rewards: Any, *, add_root: bool) -> Texts:
    """The parent of a text is the longest other text of its group that it begins with."""
    if isinstance(texts, (str, bytes)) or not isinstance(texts, (Sequence, np.ndarray)):
        msg = f"{who}(): 'texts' must be a list of strings, got {describe(texts)}"
        raise TypeError(msg)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            msg = f"{who}(): 'texts' must hold strings, got {type(text).__name__} at index {i}"
            raise TypeError(msg)
    of_text = as_groups(who, groups, length=len(texts), why="len(texts)")
    distinct = Groups.product(of_text, [str(text) for text in texts])
    first, node = distinct.first.tolist(), distinct.index
    names, group = [str(texts[i]) for i in first], of_text.index[distinct.first].tolist()
    parents, labels, roots = _climb(who, names, group, first, add_root=add_root)
    made = np.array(parents, dtype=np.int64)
    values = None if rewards is None else _rewards(who, rewards, made, distinct)
    owners = of_text.take(of_text.first[np.array([g for _, g in roots], dtype=np.int64)])
    report = TextsReport(frozen(node.copy()), len(parents), len(texts) - len(first), len(parents) - len(first), None)
    return Texts(made, owners, tuple(labels), values, report)


def _climb(
    who: str, names: list[str], group: list[int], first: list[int], *, add_root: bool
) -> tuple[list[int], list[str], list[tuple[int, int]]]:
    """Parents and own parts of the texts, and (node, group) of the roots by node.

    In sorted order a text comes after all that it begins with, and those are a stack.
    """
    parents, labels = [-1] * len(names), list(names)
    root: dict[int, int] = {}
    stack: list[int] = []
    for v in sorted(range(len(names)), key=lambda v: (group[v], names[v])):
        while stack and not (group[stack[-1]] == group[v] and names[v].startswith(names[stack[-1]])):
            stack.pop()
        if stack:
            parents[v] = stack[-1]
            labels[v] = names[v][len(names[stack[-1]]) :]
        elif (not add_root or not names[v]) and (other := root.setdefault(group[v], v)) != v:
            fix = "add their root, give each tree a group of its own, or choose add_root=True"
            two = f"texts[{first[other]}] and texts[{first[v]}], and neither begins with the other"
            msg = f"{who}(): 'texts' must have one root a group, got {two}; {fix}"
            raise ValueError(msg)
        stack.append(v)
    if add_root:
        for v in range(len(names)):
            if parents[v] < 0 and names[v]:
                if group[v] not in root:
                    root[group[v]] = len(parents)
                    parents.append(-1)
                    labels.append("")
                parents[v] = root[group[v]]
    return parents, labels, sorted((v, g) for g, v in root.items())


def _rewards(who: str, rewards: Any, parents: NDArray[np.int64], distinct: Groups) -> NDArray[np.float64]:
    """The reward of each leaf, by node; NaN where there is none."""
    if isinstance(rewards, (list, tuple)):
        rewards = [np.nan if r is None else r for r in rewards]
    given, _ = floats(who, "rewards", rewards, length=len(distinct), why="len(texts)")
    if (bad := np.flatnonzero(np.isinf(given))).size:
        msg = f"{who}(): 'rewards' must be finite, or NaN or None where there is none, got {given[bad[0]]} at {bad[0]}"
        raise ValueError(msg)
    known = np.flatnonzero(~np.isnan(given))
    value = np.full(len(parents), np.nan)
    value[distinct.index[known[::-1]]] = given[known[::-1]]  # the first of equal texts wins
    if (bad := known[value[distinct.index[known]] != given[known]]).size:
        at, node = int(bad[0]), int(distinct.index[bad[0]])
        msg = f"{who}(): 'rewards' must agree for equal texts, got {value[node]} and then {given[at]} at index {at}"
        raise ValueError(msg)
    inner = np.zeros(len(parents), dtype=bool)
    inner[parents[parents >= 0]] = True
    if (bad := known[inner[distinct.index[known]]]).size:
        at = int(bad[0])
        child = distinct.first[int(np.flatnonzero(parents == distinct.index[at])[0])]
        msg = f"{who}(): 'rewards' belong to leaves, got {given[at]} for texts[{at}], which texts[{child}] extends"
        raise ValueError(msg)
    return value[~inner]
