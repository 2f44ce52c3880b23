"""Discounted values, node by node."""

import math

from forest import children


def backup(parents, x, gamma, how="max"):
    below = children(parents)

    def q(v):
        after = [q(c) for c in below[v]]
        if not after:
            return float(x[v])
        if any(math.isnan(a) for a in after):
            return math.nan
        return float(x[v]) + gamma * (max(after) if how == "max" else math.fsum(after) / len(after))

    return [q(v) for v in range(len(parents))]
