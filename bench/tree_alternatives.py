"""Edge advantages on trees without rollmath: ``V(v) - V(parent)``, V the mean of the children, if asked over their
population standard deviation plus 1e-8. All take parents before children."""

from typing import Any

import numpy as np

from bench.alternatives import njit
from bench.inputs import Trees

EPS = 1e-8


@njit()
def _values(parents, leaves, rewards):
    total, n = np.zeros(len(parents)), np.zeros(len(parents))
    total[leaves] = rewards
    for v in range(len(parents) - 1, -1, -1):
        if n[v] > 0:
            total[v] /= n[v]
        p = parents[v]
        if p >= 0:
            total[p] += total[v]
            n[p] += 1
    return total, n


@njit()
def edges_numba(parents, leaves, rewards, normalized):
    values, n = _values(parents, leaves, rewards)
    out = np.zeros(len(parents))
    square = np.zeros(len(parents))
    for v in range(len(parents)):
        p = parents[v]
        if p >= 0:
            out[v] = values[v] - values[p]
            square[p] += out[v] * out[v]
    if normalized:
        for v in range(len(parents)):
            p = parents[v]
            if p >= 0:
                out[v] /= np.sqrt(square[p] / n[p]) + 1e-8
    return out


def edges_levels(trees: Trees, normalized: bool) -> np.ndarray:
    """One ``np.bincount`` a level, from the leaves up."""
    parents, size = trees.parents, len(trees.parents)
    values = np.zeros(size)
    values[trees.leaves] = trees.rewards
    n = np.bincount(parents[parents >= 0], minlength=size)
    for level in reversed(trees.levels[1:]):
        sums = np.bincount(parents[level], values[level], minlength=size)
        inner = np.nonzero(sums)[0]
        values[inner] = sums[inner] / n[inner]
    below = np.nonzero(parents >= 0)[0]
    out = np.zeros(size)
    out[below] = values[below] - values[parents[below]]
    if normalized:
        square = np.bincount(parents[below], out[below] ** 2, minlength=size)
        std = np.sqrt(square / np.maximum(n, 1))
        out[below] /= std[parents[below]] + EPS
    return out


def nested(trees: Trees) -> list[dict[str, Any]]:
    """The trees as trainers hold them: nested dicts; ``id`` says where a node's result goes."""
    nodes: list[dict[str, Any]] = [{"id": i, "children": []} for i in range(len(trees.parents))]
    roots = []
    for node, parent in zip(nodes, trees.parents.tolist(), strict=True):
        (nodes[parent]["children"] if parent >= 0 else roots).append(node)
    for leaf, reward in zip(trees.leaves.tolist(), trees.rewards.tolist(), strict=True):
        nodes[leaf]["reward"] = reward
    return roots


def edges_recursion(roots: list[dict[str, Any]], size: int, normalized: bool) -> np.ndarray:
    """Two recursions over nested dicts, scores up and advantages down, in the style of tree trainers."""
    out = [0.0] * size

    def score(node: dict[str, Any]) -> float:
        children = node["children"]
        if not children:
            node["score"] = node["reward"]
        else:
            scores = [score(child) for child in children]
            mean = node["score"] = sum(scores) / len(scores)
            node["std"] = (sum((s - mean) ** 2 for s in scores) / len(scores)) ** 0.5 if normalized else 0.0
        return node["score"]

    def advantage(node: dict[str, Any]) -> None:
        for child in node["children"]:
            edge = child["score"] - node["score"]
            out[child["id"]] = edge / (node["std"] + EPS) if normalized else edge
            advantage(child)

    for root in roots:
        score(root)
        advantage(root)
    return np.array(out)


def prefix_dict(lists: list[list[int]], groups: list[int], advantages: list[float]) -> tuple[np.ndarray, ...]:
    """A prefix-tree batch by a dict a token, as trainers build it: token ids, positions, ends of the intervals, the
    token before each, and the sums of the positive and of the negative advantages."""
    roots: dict[int, dict] = {}
    for tokens, group, a in zip(lists, groups, advantages, strict=True):
        below = roots.setdefault(group, {})
        for token in tokens:
            node = below.get(token)
            if node is None:
                node = below[token] = [{}, 0.0, 0.0]
            node[1 if a > 0 else 2] += a
            below = node[0]
    ids, positions, end, previous, gain, loss = [], [], [], [], [], []
    for root in roots.values():
        # (children to go, place of the parent, depth): a stack, because paths are longer than Python recurses.
        stack = [(iter(root.items()), -1, 0)]
        while stack:
            children, parent, depth = stack[-1]
            for token, node in children:
                at = len(ids)
                ids.append(token)
                positions.append(depth)
                previous.append(parent)
                gain.append(node[1])
                loss.append(node[2])
                end.append(0)
                stack.append((iter(node[0].items()), at, depth + 1))
                break
            else:
                stack.pop()
                if parent >= 0:
                    end[parent] = len(ids)
    return tuple(np.array(x) for x in (ids, positions, end, previous, gain, loss))
