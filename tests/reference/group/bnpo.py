"""BNPO: centred rewards over the density, at the mean of the group, of a Beta fitted by moments to the batch."""

import math

import numpy as np
from definitions import lone, mean, members


def parameters(means):
    """Of the Beta density: by the moments of the groups' means."""
    if len(means) < 2:
        return 1.0, 1.0
    m = mean(means)
    v = math.fsum((p - m) ** 2 for p in means) / (len(means) - 1)
    if v <= 1e-12:
        return 1.0, 1.0
    c = m * (1 - m) / v - 1
    return max(1.0, 1 + c * m / 3), max(1.0, 1 + c * (1 - m) / 3)


def density(p, alpha, beta):
    norm = math.exp(math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta))
    return norm * p ** (alpha - 1) * (1 - p) ** (beta - 1)


def bnpo(rewards, ids, *, max_weight=1e6, valid=None, singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    groups = [rows for rows in members(r, ids, valid, nan) if rows]
    whole = [rows for rows in groups if len(rows) > 1 and not any(math.isnan(r[i]) for i in rows)]
    alpha, beta = parameters([mean([r[i] for i in rows]) for rows in whole])
    out = np.zeros(len(r))
    for rows in groups:
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: max(s, 1 / max_weight))
            elif len(set(values)) > 1:
                f = density(mean(values), alpha, beta)
                out[i] = (r[i] - mean(values)) * (min(1 / f, max_weight) if f > 0 else max_weight)
    return out
