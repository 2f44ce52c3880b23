"""Where the states and steps of a small step graph are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple

#: Height that a box takes in its column, a line that passes through it, and each label of the lines at a box.
_ROOM, _PASS, LABEL = 40.0, 26.0, 12.0


class Layout(NamedTuple):
    """Columns of items: the nodes, numbered as they are, and after them a place wherever a line passes a column.

    Attributes:
        layer: column of each item.
        routes: the items that each edge goes through, from its source to its target.
        back: whether an edge leads to its own column or to an earlier one.
        columns: the items of each column, from above.
        y: height of each item.
    """

    layer: list[int]
    routes: list[list[int]]
    back: list[bool]
    columns: list[list[int]]
    y: list[float]


def _nearest(after: list[list[int]], starts: Sequence[bool]) -> tuple[list[int], list[int]]:
    """Steps from the nearest start, and all nodes in this order; what no start leads to is a start itself."""
    distance, order, done = [-1] * len(after), list[int](), 0
    for roots in ([v for v, start in enumerate(starts) if start], range(len(after))):
        fresh = [v for v in roots if distance[v] < 0]
        order += fresh
        for v in fresh:
            distance[v] = 0
        while done < len(order):
            u, done = order[done], done + 1
            for v in after[u]:
                if distance[v] < 0:
                    distance[v] = distance[u] + 1
                    order.append(v)
    return distance, order


def _next(n: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    after: list[list[int]] = [[] for _ in range(n)]
    for u, v in edges:
        after[u].append(v)
    return after


def layers(source: Sequence[int], target: Sequence[int], starts: Sequence[bool], ends: Sequence[bool]) -> list[int]:
    """The longest way from a start, where edges of cycles that lead nearer to the start, or no farther, do not count.

    So all edges of a graph without cycles lead on. Ends are in a column of their own, behind all others.
    """
    n, edges = len(starts), list(zip(source, target, strict=True))
    after = _next(n, edges)
    distance, order = _nearest(after, starts)
    # What each node leads to, as bits; backwards, so that few rounds are enough.
    leads, before = [1 << v for v in range(n)], list[int]()
    while before != leads:
        before = leads.copy()
        for u in reversed(order):
            for v in after[u]:
                leads[u] |= leads[v]
    after = _next(n, [(u, v) for u, v in edges if not (leads[v] >> u & 1 and distance[v] <= distance[u])])
    layer, waits = [0] * n, [0] * n
    for v in chain.from_iterable(after):
        waits[v] += 1
    todo = [v for v, count in enumerate(waits) if not count]
    for u in todo:
        for v in after[u]:
            layer[v] = max(layer[v], layer[u] + 1)
            waits[v] -= 1
            if not waits[v]:
                todo.append(v)
    last = max((x for x, end in zip(layer, ends, strict=True) if not end), default=-1)
    return [last + 1 if end else x for x, end in zip(layer, ends, strict=True)]


def arrange(source: Sequence[int], target: Sequence[int], starts: Sequence[bool], ends: Sequence[bool]) -> Layout:
    """Columns by distance; within a column in the order and at the height of what items are joined to."""
    layer = layers(source, target, starts, ends)
    n = len(layer)
    back = [layer[v] <= layer[u] for u, v in zip(source, target, strict=True)]
    routes = []
    for u, v in zip(source, target, strict=True):
        between = range(layer[u] + 1, layer[v])
        routes.append([u, *range(len(layer), len(layer) + len(between)), v])
        layer += between
    before: list[list[int]] = [[] for _ in layer]
    after: list[list[int]] = [[] for _ in layer]
    for route, leads_back in zip(routes, back, strict=True):
        for a, b in pairwise(route):
            if not leads_back:
                after[a].append(b)
                before[b].append(a)
    columns: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for v, x in enumerate(layer):
        columns[x].append(v)
    room = [max(_ROOM, LABEL * (1 + max(len(before[v]), len(after[v])))) for v in range(n)]
    room += [_PASS] * (len(layer) - n)
    y = [0.0] * len(layer)

    def middle(v: int, near: list[int]) -> float:
        return sum(y[u] for u in near) / len(near) if near else y[v]

    def place(column: list[int], near: list[list[int]]) -> None:
        made = spread([middle(v, near[v]) for v in column], [room[v] for v in column])
        for v, height in zip(column, made, strict=True):
            y[v] = height

    for column in columns:
        place(column, [[]] * len(layer))
    for sweep in range(8):
        near = after if sweep % 2 else before
        for column in columns[::-1] if sweep % 2 else columns:
            column[:] = [v for *_, v in sorted((middle(v, near[v]), y[v], v) for v in column)]
            place(column, near)
    both = [a + b for a, b in zip(before, after, strict=True)]
    for column in [*columns, *columns[::-1]]:
        place(column, both)
    top = min(y, default=0.0)
    return Layout(layer, routes, back, columns, [height - top for height in y])


def spread(wanted: Sequence[float], room: Sequence[float]) -> list[float]:
    """Heights as near to the wanted ones as order and room allow: least squares, by pooling adjacent violators."""
    shifts, at = [], 0.0
    for i, size in enumerate(room):
        at += (room[i - 1] + size) / 2 if i else 0.0
        shifts.append(at)
    blocks: list[tuple[float, int]] = []
    for height, shift in zip(wanted, shifts, strict=True):
        blocks.append((height - shift, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (b, m), (a, n) = blocks.pop(), blocks.pop()
            blocks.append(((a * n + b * m) / (n + m), n + m))
    levels = [level for level, n in blocks for _ in range(n)]
    return [level + shift for level, shift in zip(levels, shifts, strict=True)]
