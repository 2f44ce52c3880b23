"""ReMax by its definition: the reward minus that of the greedy response."""

import math

import numpy as np


def remax(rewards, baselines, *, valid=None, nan="raise"):
    out = np.zeros(len(rewards))
    for i, (r, b) in enumerate(zip(rewards, baselines, strict=True)):
        if valid is not None and not valid[i]:
            continue
        if nan == "omit" and (math.isnan(r) or math.isnan(b)):
            continue
        if nan != "propagate" and not (math.isfinite(r) and math.isfinite(b)):
            raise ValueError(f"{r}, {b} at {i}")
        out[i] = float(r) - float(b)
    return out
