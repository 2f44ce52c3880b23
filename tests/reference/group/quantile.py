"""QAE by its definition: the smallest reward whose share of the group reaches K, as exact fractions."""

import math
from fractions import Fraction

import numpy as np
from definitions import guard, lone, members, std


def quantile_baseline(
    rewards,
    ids,
    *,
    quantile=0.4,
    scale="std",
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    nan="raise",
):
    """``quantile`` is a Fraction, or the float nearest to one of a small denominator."""
    share = quantile if isinstance(quantile, Fraction) else Fraction(quantile).limit_denominator(10_000)
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place) if scale == "std" else 1.0)
            elif len(set(values)) == 1:
                out[i] = math.nan if scale == "std" and zero_spread == "nan" else 0.0
            else:
                reach = [x for x in values if Fraction(sum(v <= x for v in values), len(values)) >= share]
                out[i] = r[i] - min(reach)
                if scale == "std":
                    out[i] /= guard(std(values, ddof), eps, eps_place)
    return out
