"""Passes over forests, node by node."""

import math


def _deepest_first(parents):
    def depth(v):
        n = 0
        while parents[v] >= 0:
            v, n = parents[v], n + 1
        return n

    return sorted(range(len(parents)), key=depth, reverse=True)


def up(parents, leaf_nodes, leaf_values, how):
    """One value a node; sums are exact before they are rounded."""
    below = {v: [] for v in range(len(parents))}
    leaves_of = {leaf: [float(x)] for leaf, x in zip(leaf_nodes, leaf_values, strict=True)}
    out = [math.nan] * len(parents)
    for v in _deepest_first(parents):
        if below[v]:
            leaves_of[v] = [x for c in below[v] for x in leaves_of[c]]
        under = leaves_of[v]
        if how == "mean_of_children":
            out[v] = math.fsum(out[c] for c in below[v]) / len(below[v]) if below[v] else under[0]
        elif how == "leaf_mean":
            out[v] = math.fsum(under) / len(under)
        else:
            out[v] = {"sum": math.fsum, "max": max, "min": min}[how](under)
        if parents[v] >= 0:
            below[parents[v]].append(v)
    return out


def leaf_to_node_weights(parents, leaf_nodes, weights, advantages):
    """Three lists, one number a node each."""
    total, positive, negative = ([0.0] * len(parents) for _ in range(3))
    for leaf, w, a in zip(leaf_nodes, weights, advantages, strict=True):
        v = int(leaf)
        while v >= 0:
            total[v] += float(w)
            positive[v] += float(w) * max(float(a), 0.0)
            negative[v] += float(w) * min(float(a), 0.0)
            v = int(parents[v])
    return total, positive, negative
