"""RLOO by its definition: the reward minus the mean of the others."""

import math

import numpy as np


def rloo(rewards, ids, *, valid=None, singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    keep = [bool(v) for v in valid] if valid is not None else [True] * len(r)
    for i, v in enumerate(r):
        if keep[i] and (math.isinf(v) or (math.isnan(v) and nan == "raise")) and nan != "propagate":
            raise ValueError(f"{v} at {i}")
        if nan == "omit" and math.isnan(v):
            keep[i] = False
    out = np.zeros(len(r))
    for i, v in enumerate(r):
        others = [r[j] for j in range(len(r)) if j != i and keep[j] and ids[j] == ids[i]]
        if not keep[i]:
            continue
        if not others:
            if singleton == "raise":
                raise ValueError("a group of one")
            out[i] = {"zero": 0.0 if math.isfinite(v) else math.nan, "raw": v, "abs": v, "nan": math.nan}[singleton]
        elif not all(map(math.isfinite, [v, *others])):
            # Infinities of one group do not cancel in a way that anybody could rely on.
            out[i] = math.nan
        else:
            out[i] = v - math.fsum(others) / len(others)
    return out
