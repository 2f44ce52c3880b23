"""QLASS by its recursion."""

import math

from forest import children


def qlass(parents, leaf_nodes, rewards, *, gamma=0.9, height=5, on_the_way="leaf_mean", actions=None, scale="none"):
    reward = {int(leaf): float(r) for leaf, r in zip(leaf_nodes, rewards, strict=True)}
    below = children(parents)
    if actions is not None:
        for v, kids in enumerate(below):
            kept = {}
            for c in sorted(kids):
                kept.setdefault(actions[c], c)
            below[v] = list(kept.values())
    q = {}

    def leaves(v):
        return [reward[v]] if v in reward else [r for c in below[v] for r in leaves(c)]

    def visit(v, left):
        if v in reward:
            q[v] = math.fsum(gamma**i * reward[v] for i in range(max(left, 1)))
            return
        for c in below[v]:
            visit(c, left - 1)
        here = math.fsum(leaves(v)) / len(leaves(v)) if on_the_way == "leaf_mean" else 0.0
        q[v] = here + gamma * max(q[c] for c in below[v])

    out = [math.nan] * len(parents)
    for root in (v for v, p in enumerate(parents) if p < 0):
        q.clear()
        visit(root, height)
        if scale == "min_max":
            inner = [x for v, x in q.items() if v != root] or [0.0]
            low, high = min(inner), max(inner)
            q.update({v: (x - low) / (high - low) if high > low else 0.0 for v, x in q.items()})
            q[root] = 0.0
        for v, x in q.items():
            out[v] = x
    return out
