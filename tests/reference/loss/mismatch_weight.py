"""Slow, clear float64 importance weights."""

import math

from mismatch_units import exponential, log_ratio, lost, units, zeros


def ImportanceWeight(
    batch, bounds, outside="truncate", level="token", reduce="product", ratio="prox/behaviour", missing="nan", mean=1.0
):
    """Weights in rows, 0 at gaps, and how many tokens have a ratio below and above the bounds."""
    (lo, hi), weights, low, high = bounds, zeros(batch), 0, 0
    for members in units(batch, level):
        logs = [log_ratio(batch, at, ratio, missing) for at in members]
        total = math.fsum(logs) if all(map(math.isfinite, logs)) else math.nan
        r = exponential(total if reduce == "product" else total / len(members))
        low, high = low + len(members) * (r < lo), high + len(members) * (r > hi)
        if math.isnan(r):
            w = r
        elif outside == "truncate":
            w = min(max(r, lo), hi)
        else:
            w = r if lo <= r <= hi else 0.0
        for at in members:
            weights[at[0]][at[1]] = 0.0 if lost(batch, at, ratio, missing) else w / mean
    return weights, {"importance_low": low, "importance_high": high}


def step_mean(batch, level="token", **options):
    """Mean weight over tokens, rows or rollouts."""
    weights = ImportanceWeight(batch, level=level, **options)[0]
    over = units(batch, level if level in ("row", "rollout") else "token")
    return math.fsum(math.fsum(weights[i][t] for i, t in members) / len(members) for members in over) / len(over)
