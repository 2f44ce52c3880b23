"""Weights of policy filtration, one group after another."""

import math

from uid_order import preferred


def policy_filtration(
    rewards, ids, *, how, power=2.0, per="group", ties=None, uid=None, seed=None, nan="raise", valid=None
):
    r = [float(x) for x in rewards]
    there = [i for i in range(len(r)) if (valid is None or valid[i]) and not (nan == "omit" and math.isnan(r[i]))]
    order = [i for i in preferred(len(r), ties=ties, uid=uid, seed=seed) if i in there]
    out = [0.0] * len(r)
    for group in dict.fromkeys(ids) if per == "group" else [None]:
        rows = [i for i in order if per == "batch" or ids[i] == group]
        if not rows:
            continue
        # The first of the highest, and the first of the lowest of the others.
        best = max(rows, key=lambda i: r[i])
        worst = min([i for i in rows if i != best] or rows, key=lambda i: r[i])
        high, low = r[best], min(r[i] for i in rows)
        for i in rows:
            if how == "power":
                out[i] = abs(r[i]) ** power
            elif how == "max_min":
                out[i] = 1.0 if r[i] in (high, low) else 0.0
            elif how == "max_random":
                out[i] = 0.4 if r[i] == high else 0.1
            elif how == "best" or len(rows) == 1:
                out[i] = 1.0 if i == best else 0.0
            elif how == "best_random":
                out[i] = 0.5 if i == best else 1 / (2 * (len(rows) - 1))
            else:
                out[i] = 0.5 if i in (best, worst) else 0.0
    return out
