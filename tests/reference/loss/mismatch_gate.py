"""Slow, clear float64 gates."""

import math

from mismatch_units import exponential, log_ratio, lost, units, zeros

STATISTICS = {
    "ratio": lambda x: x,
    "k1": lambda x: -x,
    "k2": lambda x: x * x / 2,
    "k3": lambda x: exponential(x) - 1 - x,
}


def Gate(batch, statistic, bounds, level="token", reduce="mean", ratio="prox/behaviour", when="always", missing="nan"):
    """1, 0 or NaN for each position in rows, 0 at gaps, and how many tokens are rejected below and above."""
    weights, low, high = zeros(batch), 0, 0
    lo, hi = bounds
    if statistic == "ratio":
        lo, hi = (math.log(x) if x > 0 else -math.inf for x in bounds)
    for members in units(batch, level):
        values = [STATISTICS[statistic](log_ratio(batch, at, ratio, missing)) for at in members]
        unknown = any(math.isnan(x) for x in values)
        if reduce == "every":
            seen = [min(values), max(values)] if not unknown else values
        else:
            seen = [math.fsum(values) / (len(values) if reduce == "mean" else 1)] if not unknown else [math.nan]
        below, above = any(x < lo for x in seen), any(x > hi for x in seen)
        for i, t in members:
            rejectable = when == "always" or batch.advantages[i][t] < 0
            low, high = low + (below and rejectable), high + (above and rejectable)
            keep = not (rejectable and (below or above))
            weights[i][t] = math.nan if unknown else float(keep and not lost(batch, (i, t), ratio, missing))
    return weights, {"gate_low": low, "gate_high": high}
