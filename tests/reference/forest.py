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


def path_forest(paths, groups, rooted):
    """Parents, leaf of each path and labels, in preorder with children by first appearance.

    ``groups``: one a path; ``rooted``: the first element of a path is the root of a tree.
    """
    parents, labels, leaf_of = [], [], {}

    def node(parent, label):
        parents.append(parent)
        labels.append(label)
        return len(parents) - 1

    def visit(v, depth, members, is_root):
        if len(members) == 1 and len(paths[members[0]]) == depth and not is_root:
            leaf_of[members[0]] = v
            return
        branches = {}
        for m in members:
            key = ("ends", m) if len(paths[m]) == depth else ("goes on", type(paths[m][depth]), paths[m][depth])
            branches.setdefault(key, []).append(m)
        for key, own in branches.items():
            if key[0] == "ends":
                leaf_of[own[0]] = node(v, None)
            else:
                visit(node(v, key[2]), depth + 1, own, is_root=False)

    trees = {}
    for m, group in enumerate(groups):
        trees.setdefault((group, paths[m][0]) if rooted else group, []).append(m)
    for key, members in trees.items():
        visit(node(-1, paths[members[0]][0] if rooted else key), int(rooted), members, is_root=True)
    return parents, [leaf_of[m] for m in range(len(paths))], labels


def prefix_parents(texts, groups):
    """Parent of each text: the longest other text of its group that it begins with, -1 if there is none."""
    above = []
    for i, text in enumerate(texts):
        shorter = [
            j for j, other in enumerate(texts) if groups[j] == groups[i] and other != text and text.startswith(other)
        ]
        above.append(max(shorter, key=lambda j: len(texts[j]), default=-1))
    return above
