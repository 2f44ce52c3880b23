"""Lite PPO: the reward minus the mean of its group, over the standard deviation of the batch."""

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


def lite_ppo(
    rewards, ids, *, batch_std="rewards", valid=None, ddof=1, eps=1e-6, eps_place="add", singleton="zero", nan="raise"
):
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    groups = members(r, ids, valid, nan)
    seen = [i for rows in groups for i in rows]
    for rows in groups:
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
                continue
            # A group of several equal rewards has residuals of exactly 0.
            centred = 0.0 if len(set(values)) == 1 else r[i] - mean(values)
            out[i] = lone(r[i], singleton) if len(rows) == 1 else centred
    # The residual of a group of one is NaN under singleton="nan", and no part of the batch; a NaN reward is one.
    batch = [
        r[i] if batch_std == "rewards" else out[i]
        for i in seen
        if batch_std == "rewards" or math.isnan(r[i]) or not math.isnan(out[i])
    ]
    s = 0.0 if len(batch) <= ddof else math.nan if any(map(math.isnan, batch)) else std(batch, ddof)
    for i in seen:
        if out[i] != 0:
            out[i] = math.nan if math.isnan(s) else out[i] / guard(s, eps, eps_place)
    return out
