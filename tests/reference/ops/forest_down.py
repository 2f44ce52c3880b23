"""Passes down forests, path by path."""

import math


def path(parents, v):
    """From the root down to ``v``."""
    nodes = [v]
    while parents[nodes[-1]] >= 0:
        nodes.append(int(parents[nodes[-1]]))
    return nodes[::-1]


def down(parents, x, how, weights=None):
    """One value a node; sums are exact before they are rounded."""
    out = []
    for v in range(len(parents)):
        if weights is not None:
            terms = [(float(weights[u]), float(x[u])) for u in path(parents, v) if weights[u] > 0]
            total = math.fsum(w for w, _ in terms) if how == "mean" else 1.0
            out.append(math.fsum(w * value for w, value in terms) / total if total else math.nan)
            continue
        values = [float(x[u]) for u in path(parents, v)]
        if how == "last":
            known = [value for value in values if not math.isnan(value)]
            out.append(known[-1] if known else math.nan)
        elif any(math.isnan(value) for value in values):
            out.append(math.nan)
        elif how in ("sum", "mean"):
            out.append(math.fsum(values) / (len(values) if how == "mean" else 1))
        else:
            out.append({"max": max, "min": min}[how](values))
    return out


def parent(parents, x, root=0.0):
    return [root if p < 0 else x[p] for p in parents]


def root(parents, x):
    return [x[path(parents, v)[0]] for v in range(len(parents))]
