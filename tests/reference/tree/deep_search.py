"""DeepSearch as it is told: one rollout after another, each along its path."""

import math

from forest import path


def backed_up(parents, leaf_nodes, rewards, failures, entropies):
    """Numbers of the rollouts that are backed up."""
    if failures == "all":
        return set(range(len(rewards)))
    out = set()
    root = [path(parents, leaf)[0] for leaf in leaf_nodes]
    for tree in set(root):
        own = [k for k in range(len(rewards)) if root[k] == tree]
        if any(rewards[k] > 0 for k in own):
            out |= set(own)
        else:
            out.add(min(own, key=lambda k: entropies[k]))
    return out


def deep_search_values(parents, leaf_nodes, rewards, *, floor=0.1, failures="all", entropies=None, order=None):
    q = [0.0] * len(parents)
    live = backed_up(parents, leaf_nodes, rewards, failures, entropies)
    for k in range(len(rewards)) if order is None else order:
        if k not in live:
            continue
        nodes, r = path(parents, leaf_nodes[k]), float(rewards[k])
        for i, v in enumerate(nodes[:-1]):
            step = max(i / (len(nodes) - 1), floor) * r
            if q[v] * r >= 0:
                q[v] += step
            elif r > 0:
                q[v] = step
    for leaf, r in zip(leaf_nodes, rewards, strict=True):
        q[leaf] = float(r)
    return q


def deep_search(parents, leaf_nodes, rewards, *, temperature=1.0, bound=1.0, **options):
    q = deep_search_values(parents, leaf_nodes, rewards, **options)
    root = {int(leaf): path(parents, leaf)[0] for leaf in leaf_nodes}
    out = []
    for v, p in enumerate(parents):
        tree = path(parents, v)[0]
        own = [float(r) for leaf, r in zip(leaf_nodes, rewards, strict=True) if root[int(leaf)] == tree]
        mean = math.fsum(own) / len(own)
        value = q[v] if v in root else bound * math.tanh(q[v] / temperature)
        out.append(value - mean if p >= 0 else 0.0)
    return out
