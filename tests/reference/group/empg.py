"""EMPG: one step after the other."""

import math

import numpy as np


def empg(
    advantages,
    entropies,
    trajectory,
    *,
    step=None,
    weights=None,
    k=1.0,
    k_future=1.0,
    zeta=0.05,
    center=True,
    eps=1e-8,
    valid=None,
):
    n = len(advantages)
    rows = [i for i in range(n) if valid is None or valid[i]]
    out = np.zeros(n)
    if not rows:
        return out
    low, high = min(entropies[i] for i in rows), max(entropies[i] for i in rows)
    h = {i: (entropies[i] - low) / (high - low + eps) if high > low else 0.0 for i in rows}
    w = {i: 1.0 if weights is None else float(weights[i]) for i in rows}
    total = math.fsum(w.values())
    least = min(h[i] for i in rows if w[i] > 0)  # exp(-k h) of all may underflow
    scale = math.fsum(w[i] * math.exp(-k * (h[i] - least)) for i in rows) / total
    for i in rows:
        when = i if step is None else step[i]
        later = [
            (j if step is None else step[j], j)
            for j in rows
            if trajectory[j] == trajectory[i] and (j if step is None else step[j]) > when
        ]
        out[i] = float(advantages[i]) * math.exp(-k * (h[i] - least)) / scale
        if later:
            out[i] += zeta * math.exp(-k_future * h[min(later)[1]])
    if center:
        mean = math.fsum(w[i] * out[i] for i in rows) / total
        for i in rows:
            out[i] -= mean
    return out
