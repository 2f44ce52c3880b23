"""ASPO, equation 2 of its paper, one group after the other."""

import math

import numpy as np


def aspo(advantages, ids, position, lengths, *, correct, used=None, delta=-2.0, k=0.7, valid=None):
    n = len(advantages)
    keep = [valid is None or bool(valid[i]) for i in range(n)]
    out = np.array([float(a) if keep[i] else 0.0 for i, a in enumerate(advantages)])
    for group in dict.fromkeys(ids):
        chosen = [
            i
            for i in range(n)
            if ids[i] == group and keep[i] and correct[i] and (position[i] >= 0 if used is None else used[i])
        ]
        if not chosen:
            continue
        p = math.fsum(position[i] for i in chosen) / len(chosen)
        length = math.fsum(lengths[i] for i in chosen) / len(chosen)
        for i in chosen:
            limit = k * abs(out[i])
            out[i] += min(max(delta * (position[i] - p) / length, -limit), limit)
    return out
