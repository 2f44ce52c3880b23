"""GDPO: a z-score of each channel in its group, their weighted sum, its z-score over the rollouts or tokens."""

import math

import numpy as np
from definitions import guard, lone, mean, members, std


def channel(r, ids, valid, scale, leave_one_out, ddof, eps, eps_place, singleton, zero_spread, nan):
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        for i in rows:
            others = [r[j] for j in rows if j != i]
            seen = others if leave_one_out else [r[j] for j in rows]
            if any(math.isnan(r[j]) for j in rows):
                out[i] = math.nan
            elif not others:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place) if scale == "std" else 1.0)
            elif len({r[j] for j in rows}) == 1:
                out[i] = 0.0
            elif scale == "none":
                out[i] = r[i] - mean(seen)
            elif len(set(seen)) == 1:
                out[i] = {"zero": 0.0, "unscaled": r[i] - mean(seen)}[zero_spread]
            else:
                out[i] = (r[i] - mean(seen)) / guard(std(seen, ddof), eps, eps_place)
    return out


def gdpo(
    rewards,
    ids,
    *,
    weights=None,
    scale="std",
    leave_one_out=False,
    whiten=(),
    lengths=None,
    valid=None,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    nan="raise",
):
    table = np.asarray(rewards, dtype=np.float64)
    n, channels = table.shape
    w = [1.0] * channels if weights is None else weights
    seen = [i for i in range(n) if (valid is None or valid[i]) and not (nan == "omit" and all(np.isnan(table[i])))]
    rules = (ddof, eps, eps_place, singleton, zero_spread, nan)
    parts = [channel(list(table[:, c]), ids, valid, scale, leave_one_out, *rules) for c in range(channels)]
    out = np.array([math.fsum(w[c] * parts[c][i] for c in range(channels)) for i in range(n)])
    if whiten is None:
        return out
    how = {"ddof": 1, "eps": 1e-8, "eps_place": "sqrt"} | dict(whiten)
    times = [1 if lengths is None else int(lengths[i]) for i in range(n)]
    tokens = [out[i] for i in seen for _ in range(times[i])]
    whitened = np.zeros(n)
    for i in seen:
        if any(math.isnan(t) for t in tokens):
            whitened[i] = math.nan
        elif len(set(tokens)) > 1:
            s = std(tokens, how["ddof"])
            whitened[i] = (out[i] - mean(tokens)) / guard(s, how["eps"], how["eps_place"])
    return whitened
