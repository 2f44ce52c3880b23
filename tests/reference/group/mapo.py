"""MAPO: deviations over the standard deviation and over the mean, mixed by 4 p (1 - p) of the success rate."""

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


def mapo(
    rewards,
    ids,
    *,
    success=None,
    certainty="4p(1-p)",
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    nan="raise",
):
    r = [float(v) for v in rewards]
    won = [v == 1 for v in r] if success is None else [bool(v) for v in success]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place))
            elif len(set(values)) > 1:
                m = mean(values)
                if m <= 0:
                    raise ValueError("mean")
                p = sum(won[j] for j in rows) / len(rows)
                share = 4 * p * (1 - p) if certainty == "4p(1-p)" else 2 * min(p, 1 - p)
                score = (r[i] - m) / guard(std(values, ddof), eps, eps_place)
                out[i] = share * score + (1 - share) * (r[i] - m) / guard(m, eps, eps_place)
    return out
