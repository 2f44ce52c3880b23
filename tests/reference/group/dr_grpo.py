"""Dr. GRPO by its definition: the reward minus the mean of the group."""

import math

import numpy as np
from definitions import lone, mean, members


def dr_grpo(rewards, ids, *, valid=None, singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            else:
                out[i] = lone(r[i], singleton) if len(rows) == 1 else r[i] - mean(values)
    return out
