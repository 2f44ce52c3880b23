"""Passes up a forest, node by node, from lists of children and of leaves."""

import math


def _deepest_first(parents):
    def depth(v):
        n = 0
        while parents[v] >= 0:
            v, n = parents[v], n + 1
        return n

    return sorted(range(len(parents)), key=depth, reverse=True)


def _mean(pairs):
    return math.fsum(w * x for x, w in pairs) / math.fsum(w for _, w in pairs)


def _soft(pairs, beta):
    """``beta log(mean(exp(x / beta)))``; the largest is taken out so that no exponential overflows."""
    if beta in (0.0, math.inf):
        return _mean(pairs) if beta else max(x for x, _ in pairs)
    top = max(x for x, _ in pairs)
    if math.isinf(top):
        return top
    return top + beta * math.log(_mean([(math.exp((x - top) / beta), w) for x, w in pairs]))


def up(parents, leaf_nodes, leaf_values, how, beta=None, weights=None, empty=math.nan):
    """One value a node; sums are exact before they are rounded. None inside stands for a node without a value."""
    w = [1.0] * len(parents) if weights is None else [float(x) for x in weights]
    children = {v: [] for v in range(len(parents))}
    # Leaves below, each with the product of the weights between it and the node.
    leaves = {int(leaf): [(float(x), 1.0)] for leaf, x in zip(leaf_nodes, leaf_values, strict=True)}
    value = {v: own[0][0] for v, own in leaves.items()}
    if how in ("any", "all"):
        value = {v: float(x != 0) for v, x in value.items()}
    for v in _deepest_first(parents):
        if parents[v] >= 0:
            children[int(parents[v])].append(v)
        if v in leaves:
            continue
        counted = [c for c in children[v] if w[c] > 0 and value[c] is not None]
        branches = [(value[c], w[c]) for c in counted]
        leaves[v] = [(x, w[c] * weight) for c in counted for x, weight in leaves[c]]
        if not counted:
            value[v] = None
        elif any(math.isnan(x) for x, _ in branches):
            value[v] = math.nan
        elif how in ("leaf_mean", "leaf_logmeanexp"):
            value[v] = _mean(leaves[v]) if how == "leaf_mean" else _soft(leaves[v], beta)
        elif how == "mean_of_children":
            value[v] = _mean(branches)
        elif how == "logmeanexp_of_children":
            value[v] = _soft(branches, beta)
        elif how == "sum":
            value[v] = math.fsum(weight * x for x, weight in branches)
        else:
            value[v] = {"max": max, "min": min, "any": max, "all": min}[how](x for x, _ in branches)
    return [empty if value[v] is None else value[v] for v in range(len(parents))]


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
