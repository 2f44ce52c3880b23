"""Statistics of the leaves below each node, from lists of them."""

import math

import numpy as np


def leaf_stat(parents, leaf_nodes, leaf_values, how, parameter=0):
    """One value a node; ``parameter`` is ddof, q or k."""
    below = [[] for _ in parents]
    for leaf, x in zip(leaf_nodes, leaf_values, strict=True):
        v = int(leaf)
        while v >= 0:
            below[v].append(float(x))
            v = int(parents[v])
    return [_one(sorted(x), how, parameter) for x in below]


def _one(x, how, parameter):
    if any(math.isnan(value) for value in x):
        return math.nan
    mean = math.fsum(x) / len(x)
    if how == "mean":
        return mean
    if how == "quantile":
        return float(np.quantile(x, parameter))
    if how == "top_mean":
        top = x[-parameter:]
        return math.fsum(top) / len(top)
    if len(x) <= parameter:
        return math.nan
    var = math.fsum((value - mean) ** 2 for value in x) / (len(x) - parameter)
    return math.sqrt(var) if how == "std" else var
