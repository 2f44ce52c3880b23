"""Stratified advantages: z-scores within strata of a group and within the group, blended."""

import math

import numpy as np
from definitions import guard, lone, mean, members, std


def standardised(r, rows, scale, ddof, eps, eps_place, singleton, zero_spread):
    values = [r[i] for i in rows]
    if any(map(math.isnan, values)):
        return [math.nan] * len(rows)
    if len(rows) == 1:
        return [lone(values[0], singleton, lambda s: guard(s, eps, eps_place) if scale == "std" else 1.0)]
    if len(set(values)) == 1:
        flat = {"zero": 0.0, "unscaled": 0.0, "nan": math.nan}[zero_spread] if scale == "std" else 0.0
        return [flat] * len(rows)
    s = guard(std(values, ddof), eps, eps_place) if scale == "std" else 1.0
    return [(v - mean(values)) / s for v in values]


def stratified(
    rewards,
    ids,
    *,
    strata,
    blend=1.0,
    min_stratum=1,
    scale="std",
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    nan="raise",
):
    r = [float(v) for v in rewards]
    rules = (scale, ddof, eps, eps_place, singleton, zero_spread)
    by_group, by_stratum, size = np.zeros(len(r)), np.zeros(len(r)), {}
    for rows in members(r, ids, valid, nan):
        by_group[rows] = standardised(r, rows, *rules) if rows else []
    for rows in members(r, list(zip(ids, strata, strict=True)), valid, nan):
        by_stratum[rows] = standardised(r, rows, *rules) if rows else []
        size |= dict.fromkeys(rows, len(rows))
    out = np.zeros(len(r))
    for i, n in size.items():
        share = blend if n >= min_stratum else 0.0
        # A part of weight 0 has no say, even if it is NaN.
        out[i] = (share * by_stratum[i] if share > 0 else 0.0) + ((1 - share) * by_group[i] if share < 1 else 0.0)
    return out
