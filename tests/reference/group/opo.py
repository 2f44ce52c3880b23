"""Weighted baselines by their definition; the weights are the lengths in OPO."""

import math

import numpy as np


def members(rewards, ids, valid, nan):
    """Rows that take part, group by group."""
    keep = [True] * len(rewards) if valid is None else [bool(v) for v in valid]
    for i, r in enumerate(rewards):
        if keep[i] and nan == "raise" and not math.isfinite(r):
            raise ValueError(f"{r} at {i}")
        keep[i] = keep[i] and not (nan == "omit" and math.isnan(r))
    return [[i for i in range(len(ids)) if ids[i] == g and keep[i]] for g in dict.fromkeys(ids)]


def mean(values):
    return math.fsum(values) / len(values)


def lone(x, singleton, denominator=lambda s: 1.0):
    """What the only member of a group gets, where ``denominator`` divides by the standard deviation 1 or |x|."""
    if singleton == "raise":
        raise ValueError("a group of one")
    if singleton == "abs" and x == 0:
        return 0.0
    return {"zero": 0.0, "nan": math.nan, "raw": x / denominator(1.0), "abs": x / denominator(abs(x) or 1.0)}[singleton]


def optimal_baseline(rewards, ids, weights, *, valid=None, singleton="zero", nan="raise"):
    r, w = [float(v) for v in rewards], [float(v) for v in weights]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        if not rows:
            continue
        total = math.fsum(w[i] for i in rows)
        for i in rows:
            if any(math.isnan(r[j]) for j in rows):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton)
            elif total == 0:
                raise ValueError("no weight in a group")
            else:
                out[i] = r[i] - math.fsum(w[j] * r[j] for j in rows) / total
    return out


def opo(rewards, ids, lengths, **options):
    return optimal_baseline(rewards, ids, lengths, **options)
