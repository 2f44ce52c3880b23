"""MaxRL: the deviation from the group's mean over that mean; 0 where the mean is not positive."""

import math

import numpy as np
from definitions import guard, lone, mean, members


def maxrl(rewards, ids, *, valid=None, eps=1e-6, eps_place="add", singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    out = np.zeros(len(r))
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton, lambda s: guard(s, eps, eps_place))
            elif len(set(values)) > 1 and mean(values) > 0:
                out[i] = (r[i] - mean(values)) / guard(mean(values), eps, eps_place)
    return out
