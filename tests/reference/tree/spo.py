"""SPO-tree as its formulas say, one node at a time."""

import math


def spo(parents, leaf_nodes, rewards, edge="difference", leave_one_out=False, ddof=0, eps=1e-8):
    below = {v: [c for c, p in enumerate(parents) if p == v] for v in range(len(parents))}
    value = {leaf: float(r) for leaf, r in zip(leaf_nodes, rewards, strict=True)}
    waiting = [v for v in below if v not in value]
    while waiting:
        ready = [v for v in waiting if all(c in value for c in below[v])]
        for v in ready:
            value[v] = math.fsum(value[c] for c in below[v]) / len(below[v])
        waiting = [v for v in waiting if v not in value]

    out = []
    for v, p in enumerate(parents):
        if p < 0:
            out.append(0.0)
            continue
        family = [value[c] for c in below[p]]
        others = [value[c] for c in below[p] if c != v]
        degenerate = not others if leave_one_out or edge == "normalized" else False
        if degenerate or (edge == "normalized" and min(family) == max(family)):
            out.append(0.0)
            continue
        advantage = value[v] - (math.fsum(others) / len(others) if leave_one_out else value[p])
        if edge == "normalized":
            mean = math.fsum(family) / len(family)
            advantage /= math.sqrt(math.fsum((x - mean) ** 2 for x in family) / (len(family) - ddof)) + eps
        out.append(advantage)
    return out


def nonzero_edges(parents, advantages):
    return [p >= 0 and a != 0 for p, a in zip(parents, advantages, strict=True)]
