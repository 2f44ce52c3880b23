"""The 80/20 rule by a full sort."""

import math


def entropy_threshold(entropy_parts, *, quantile, method="linear"):
    x = sorted(float(h) for part in entropy_parts for h in part)
    if not x:
        return math.inf
    rank = quantile * (len(x) - 1)
    for whole in range(len(x)):
        if abs(rank - whole) <= len(x) / 2**51:
            rank = whole
    low, high = x[math.floor(rank)], x[math.ceil(rank)]
    if method != "linear":
        return low if method == "lower" else high
    part = rank - math.floor(rank)
    return (1 - part) * low + part * high


def entropy_mask(entropy, threshold):
    return [float(h) >= threshold for h in entropy]
