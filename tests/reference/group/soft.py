"""Soft values by their definition, in logarithms of sums that cannot overflow."""

import math

import numpy as np


def soft(values, heat):
    if heat == 0:
        return max(values)
    if math.isinf(heat):
        return math.fsum(values) / len(values)
    top = max(values)
    return top + heat * math.log(math.fsum(math.exp((v - top) / heat) for v in values) / len(values))


def soft_value(rewards, ids, *, beta=0.5, valid=None):
    out = []
    for group in dict.fromkeys(ids):
        members = [float(rewards[i]) for i in range(len(ids)) if ids[i] == group and (valid is None or valid[i])]
        out.append(soft(members, beta) if members else math.nan)
    return np.array(out)


def centred(rewards, ids, heat, valid, singleton, nan):
    r = [float(v) for v in rewards]
    keep = [valid is None or bool(valid[i]) for i in range(len(r))]
    if nan == "omit":
        keep = [k and not math.isnan(v) for k, v in zip(keep, r, strict=True)]
    out = np.zeros(len(r))
    for i in range(len(r)):
        members = [r[j] for j in range(len(r)) if keep[j] and ids[j] == ids[i]]
        if not keep[i]:
            continue
        if any(map(math.isnan, members)):
            out[i] = math.nan
        elif len(members) == 1:
            out[i] = {"zero": 0.0, "raw": r[i], "abs": r[i], "nan": math.nan}[singleton]
        else:
            out[i] = r[i] - soft(members, heat) if min(members) < max(members) else 0.0
    return out


def a_star_po(rewards, ids, *, beta=0.5, valid=None, singleton="zero", nan="raise"):
    return centred(rewards, ids, beta, valid, singleton, nan)


def opmd(rewards, ids, *, baseline="mean", tau=1.0, valid=None, singleton="zero", nan="raise"):
    return centred(rewards, ids, tau if baseline == "logmeanexp" else math.inf, valid, singleton, nan)
