"""Weighted baselines by their definition; the weights are the lengths in OPO."""

import math

import numpy as np
from definitions import lone, members


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
