"""The margin of the best, and pass@k by listing every subset."""

import itertools
import math

import numpy as np
from definitions import guard, lone, mean, members, std


def passk(
    rewards,
    ids,
    *,
    scale="none",
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    nan="raise",
):
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
                continue
            if len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place) if scale == "std" else 1.0)
                continue
            if scale == "std" and len(set(values)) == 1:
                out[i] = {"zero": 0.0, "unscaled": 0.0, "nan": math.nan}[zero_spread]
                continue
            margin = max(values) - max(r[j] for j in rows if j != i)
            s = guard(std(values, ddof), eps, eps_place) if scale == "std" else 1.0
            out[i] = margin / s if margin > 0 else 0.0
    return out


def passk_training(rewards, ids, k, *, valid=None, eps=1e-6, eps_place="add", singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        if rows and len(rows) < k:
            raise ValueError("too few")
        subsets = list(itertools.combinations(rows, k))
        best = [max(r[i] for i in subset) for subset in subsets]
        for i in rows:
            if any(math.isnan(r[j]) for j in rows):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place))
            elif len(set(best)) > 1:
                sigma = std(best, 0)
                mine = [b for b, subset in zip(best, subsets, strict=True) if i in subset]
                out[i] = (mean(mine) - mean(best)) / guard(sigma, eps, eps_place)
    return out
