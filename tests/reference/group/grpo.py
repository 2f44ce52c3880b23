"""GRPO: the reward minus the mean of its group over the group's standard deviation, guarded as a convention says."""

import math

import numpy as np
from definitions import mean


def std(values, ddof):
    """Sample (ddof 1) or population (ddof 0) standard deviation; exactly 0 for equal values."""
    if len(set(values)) == 1:
        return 0.0
    if len(values) <= ddof:
        return math.nan
    m = mean(values)
    return math.sqrt(math.fsum((v - m) ** 2 for v in values) / (len(values) - ddof))


def denominator(s, eps, eps_place):
    if eps_place == "add":
        return s + eps
    if eps_place == "max":
        return max(s, eps)
    if eps_place == "sqrt":
        return math.sqrt(s * s + eps)
    assert eps_place == "where_positive"
    return s + eps if s > 0 else 1.0


def lone_member(x, scale, eps, eps_place, singleton):
    if singleton == "raise":
        raise ValueError("a group of one")
    if singleton == "zero":
        return 0.0 if math.isfinite(x) else math.nan
    if singleton == "nan":
        return math.nan
    s = 1.0 if singleton == "raw" else abs(x)
    if x == 0:
        return 0.0
    return x / denominator(s, eps, eps_place) if scale == "std" else x


def without_spread(centered, zero_spread):
    """What divides would be 0: the members are equal, or the others are."""
    if zero_spread == "raise":
        raise ValueError("no spread")
    return {"zero": 0.0, "unscaled": centered, "nan": math.nan}[zero_spread]


def grpo(
    rewards,
    ids,
    *,
    valid=None,
    scale="std",
    leave_one_out=False,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    nan="raise",
):
    r = [float(v) for v in rewards]
    keep = [bool(v) for v in valid] if valid is not None else [True] * len(r)
    if nan != "propagate" and any(k and math.isinf(v) for k, v in zip(keep, r, strict=True)):
        raise ValueError("infinite")
    if nan == "raise" and any(k and math.isnan(v) for k, v in zip(keep, r, strict=True)):
        raise ValueError("NaN")
    if nan == "omit":
        keep = [k and not math.isnan(v) for k, v in zip(keep, r, strict=True)]

    out = np.zeros(len(r))
    for group in dict.fromkeys(ids):
        rows = [i for i in range(len(r)) if ids[i] == group and keep[i]]
        values = [r[i] for i in rows]
        for i in rows:
            others = [r[j] for j in rows if j != i]
            if not others:
                out[i] = lone_member(r[i], scale, eps, eps_place, singleton)
                continue
            if not all(map(math.isfinite, values)):
                out[i] = math.nan
                continue
            seen = others if leave_one_out else values
            centered = r[i] - mean(seen)
            if scale == "none":
                out[i] = centered if len(set(values)) > 1 else 0.0
            elif len(set(seen)) == 1:
                out[i] = without_spread(centered, zero_spread)
            else:
                out[i] = centered / denominator(std(seen, ddof), eps, eps_place)
    return out
