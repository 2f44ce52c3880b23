"""Lite PPO: the reward minus the mean of its group, over the standard deviation of the batch."""

import math

import numpy as np
from definitions import guard, lone, mean, members, std


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
