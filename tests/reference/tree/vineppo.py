"""VinePPO, backwards along one trajectory after another."""

import math


def vineppo(values, rewards, gamma=1.0):
    """Lists of lists, a reward a step; NaN is missing."""
    out = []
    for v, r in zip(values, rewards, strict=True):
        known = [*v, 0.0]
        for i in reversed(range(len(v))):
            if math.isnan(known[i]):
                known[i] = r[i] + gamma * known[i + 1]
        out.append([r[i] + gamma * known[i + 1] - known[i] for i in range(len(v))])
    return out
