"""graph.canonical_states by brute force: every pair by dynamic programming, text after text."""

from __future__ import annotations


def longest_common_subsequence(a: str, b: str) -> int:
    """Length, row by row of the table."""
    before = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
        before = row
    return before[-1]


def ratio(a: str, b: str) -> float:
    """2 L / (len(a) + len(b)), 1 for two empty texts."""
    return 2 * longest_common_subsequence(a, b) / (len(a) + len(b)) if a or b else 1.0


def canonical_states(texts, tasks, *, threshold=0.95, linkage="leader"):
    """``(task, text)`` for each row."""
    follows = {}
    for task in set(tasks):
        own = [x for x, t in zip(texts, tasks, strict=True) if t == task]
        ordered = sorted(set(own), key=lambda x: (-own.count(x), x))
        follows[task] = (_leaders if linkage == "leader" else _single)(ordered, threshold)
    return [(t, follows[t][x]) for x, t in zip(texts, tasks, strict=True)]


def _leaders(ordered, threshold):
    leaders = []
    for x in ordered:
        if all(ratio(x, y) < threshold for y in leaders):
            leaders.append(x)
    out = {}
    for x in ordered:
        ratios = [ratio(x, y) for y in leaders]
        out[x] = x if x in leaders else leaders[ratios.index(max(ratios))]
    return out


def _single(ordered, threshold):
    out = {}
    for x in ordered:
        if x in out:
            continue
        out[x], stack = x, [x]
        while stack:
            a = stack.pop()
            for b in ordered:
                if b not in out and ratio(a, b) >= threshold:
                    out[b] = x
                    stack.append(b)
    return out
