"""Stratified advantages: z-scores within strata of a group and within the group, blended."""

import math

import numpy as np


def members(rewards, ids, valid, nan):
    """Rows that take part, group by group."""
    keep = [True] * len(rewards) if valid is None else [bool(v) for v in valid]
    for i, r in enumerate(rewards):
        if keep[i] and nan == "raise" and not math.isfinite(r):
            raise ValueError(f"{r} at {i}")
        keep[i] = keep[i] and not (nan == "omit" and math.isnan(r))
    return [[i for i in range(len(ids)) if ids[i] == g and keep[i]] for g in dict.fromkeys(ids)]


def mean(values):
    return math.fsum(values) / len(values)


def std(values, ddof):
    if len(set(values)) == 1:
        return 0.0
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / (len(values) - ddof)) if len(values) > ddof else math.nan


def lone(x, singleton, denominator=lambda s: 1.0):
    """What the only member of a group gets, where ``denominator`` divides by the standard deviation 1 or |x|."""
    if singleton == "raise":
        raise ValueError("a group of one")
    if singleton == "abs" and x == 0:
        return 0.0
    return {"zero": 0.0, "nan": math.nan, "raw": x / denominator(1.0), "abs": x / denominator(abs(x) or 1.0)}[singleton]


def guard(s, eps, eps_place):
    if eps_place == "where_positive":
        return s + eps if s > 0 else 1.0
    return {"add": s + eps, "max": max(s, eps), "sqrt": math.sqrt(s * s + eps)}[eps_place]


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
