"""Near-equal texts to canonical ids, so that states that differ in a detail are one state."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, check_vector, choice
from rollmath._checks import listed, real
from rollmath.graph._similarity import clusters, rapidfuzz
from rollmath.groups import Groups, as_groups


def canonical_states(
    texts: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    threshold: float = 0.95,
    linkage: Literal["leader", "single"] = "leader",
) -> Groups:
    """Near-equal texts of a task get one id: near is ``ratio(a, b) = 2 L / (len(a) + len(b)) >= threshold``.

    ``L`` is the length of the longest common subsequence, so the ratio is 1 minus the normalised Indel distance
    (``rapidfuzz.fuzz.ratio`` / 100). The result goes into ``Steps(state=...)``. It depends neither on the order of the
    rows nor on the number of threads.

    Args:
        texts: one string a row, compared code point by code point, case and spaces included. They may be empty.
        groups: the task, one id a row. Equal texts of a task always get one id, texts of different tasks never.
        threshold: from 0 (all texts of a task are near) to 1 (equal ones alone are).
        linkage: ``"leader"``: in order of their frequency in the task, and of strings where that is equal, texts
            become leaders unless an earlier leader is near; all others join the most similar leader, the earliest
            of several. So every text is near its leader, and no two leaders are near.
            ``"single"``: texts that are near, or joined by a chain of near ones; its ends may be far apart.

    Returns:
        Groups over the rows, with ids ``(id of the task, text of the leader)``; for ``"single"`` the text of each
        component that would lead first.

    Raises:
        ModuleNotFoundError: rapidfuzz is not installed (extra ``similarity``).
        TypeError: texts that are no strings.
        ValueError: wrong lengths, a threshold outside of 0 to 1, an unknown linkage.

    Distinct texts of a task are compared pair by pair, unless a bound from the counts of their characters shows them
    far apart: time grows with the square of their number, memory in proportion to it.

    Source: our own rule, for what the code of GiGPO (arXiv 2505.10978; a fork of it executed) does with
    ``enable_similarity``: there a text joins the first earlier cluster whose first text is near, which depends on the
    order of the rows, and near is ``difflib``'s ratio. That one adds up long common blocks, which is never more than
    ``L``; it depends on which text comes first; and in a text of 200 characters or more it finds no block all of whose
    characters make up more than about 1 % of the text each, so one inserted word can halve it.

    >>> texts = ["red lamp", "red lamps", "red lamps!"]  # neighbours are near, the ends are not
    >>> made = canonical_states(texts, [0, 0, 0], threshold=0.92)
    >>> made.index.tolist(), made.ids
    ([0, 1, 1], ((0, 'red lamp'), (0, 'red lamps!')))
    >>> canonical_states(texts[::-1], [0, 0, 0], threshold=0.92).index.tolist()  # by first fit both would be 0 0 1
    [0, 0, 1]
    >>> canonical_states([*texts, "red lamps"], [0] * 4, threshold=0.92).ids  # the most frequent leads
    ((0, 'red lamps'),)
    """
    who = "canonical_states"
    tools = rapidfuzz(who)
    names = _strings(who, texts)
    tasks = as_groups(who, groups, length=len(names), why="the number of texts")
    cut = real(who, "threshold", threshold, 0.0, 1.0)
    choice(who, "linkage", linkage, ("leader", "single"))
    distinct = Groups.product(tasks, Groups(names))
    task, own = tasks.index[distinct.first], [names[row] for row in distinct.first.tolist()]
    rank = sorted(range(len(own)), key=lambda k: (task[k], -distinct.counts[k], own[k]))
    leader = np.empty(len(own), np.int64)
    for part in np.split(np.array(rank, np.int64), np.searchsorted(task[rank], np.arange(1, tasks.n_groups))):
        leader[part] = part[clusters(tools, [own[k] for k in part.tolist()], cut, linkage)]
    index = np.ascontiguousarray(leader[distinct.index])
    return Groups._make(_core.Csr.from_ids(who, index), lambda row: (tasks.ids[tasks.index[row]], own[index[row]]))


def _strings(who: str, texts: Any) -> list[str]:
    """One string a row, as a list."""
    if isinstance(texts, np.ndarray):
        check_vector(who, "texts", texts, None, "")
    values = listed(who, "'texts'", texts, "a sequence with one string a row")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            msg = f"{who}(): 'texts' must hold strings, got {type(value).__name__} at index {row}"
            raise TypeError(msg)
    # Plain strings, of what is derived from them (np.str_, enums).
    return [x if type(x) is str else str.__str__(x) for x in values]
