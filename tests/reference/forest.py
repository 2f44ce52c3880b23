"""Forests by definition: children lists, paths walked node by node, prefixes compared token by token."""

import numpy as np


def random_parents(seed, n):
    """Parents of a random forest of ``n`` nodes: chains, stars and mixed trees, in any id order."""
    rng = np.random.default_rng(seed)
    reach = rng.choice([1, 3, n])
    above = [int(rng.integers(max(-1, v - 1 - reach), v)) for v in range(n)]
    name = rng.permutation(n)
    parents = np.empty(n, dtype=np.int64)
    for v, p in enumerate(above):
        parents[name[v]] = -1 if p < 0 else name[p]
    return parents


def children(parents):
    below = [[] for _ in parents]
    for v, p in enumerate(parents):
        if p >= 0:
            below[p].append(v)
    return below


def leaves(parents):
    return [v for v, below in enumerate(children(parents)) if not below]


def path(parents, v):
    """From the root down to ``v``."""
    nodes = [v]
    while parents[nodes[-1]] >= 0:
        nodes.append(int(parents[nodes[-1]]))
    return nodes[::-1]


def preorder(parents):
    below, order = children(parents), []
    stack = [v for v, p in enumerate(parents) if p < 0][::-1]
    while stack:
        order.append(stack.pop())
        stack.extend(below[order[-1]][::-1])
    return order


def leaf_counts(parents):
    counts = [0] * len(parents)
    for leaf in leaves(parents):
        for v in path(parents, leaf):
            counts[v] += 1
    return counts


def expand_rollouts(parents, leaf_nodes, lengths, x, include_root):
    """One list a rollout."""
    return [
        [x[v] for v in path(parents, leaf) if include_root or parents[v] >= 0 for _ in range(lengths[v])]
        for leaf in leaf_nodes
    ]


def distinct_prefixes(lists, groups, payload=None):
    """(row, column) of each token that no earlier row of its group has after the same tokens."""
    seen, first = set(), []
    for row, tokens in enumerate(lists):
        keys = tokens if payload is None else list(zip(tokens, payload[row], strict=True))
        for n in range(1, len(tokens) + 1):
            key = (groups[row], tuple(keys[:n]))
            if key not in seen:
                seen.add(key)
                first.append((row, n - 1))
    return first
