"""MAPO: deviations over the standard deviation and over the mean, mixed by 4 p (1 - p) of the success rate."""

import math

import numpy as np
from definitions import guard, lone, mean, members, std


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
