"""GPG: centred rewards, times the rollouts of the batch over those in groups with a signal, over a constant."""

import math

import numpy as np
from definitions import lone, mean, members


def gpg(rewards, ids, *, f_norm=1.0, correction="informative", valid=None, singleton="zero", nan="raise"):
    r = [float(v) for v in rewards]
    out, rollouts, with_signal = np.zeros(len(r)), 0, 0
    for rows in members(r, ids, valid, nan):
        values = [r[i] for i in rows]
        for i in rows:
            if any(map(math.isnan, values)):
                out[i] = math.nan
            elif len(set(values)) > 1:
                out[i] = r[i] - mean(values)
            elif len(rows) == 1:
                out[i] = lone(r[i], singleton)
        rollouts += len(rows)
        if correction == "nonzero_reward":
            with_signal += sum(v != 0 for v in values)
        elif len(set(values)) > 1 and not any(map(math.isnan, values)):
            with_signal += len(rows)
        elif len(rows) == 1 and out[rows[0]] not in {0.0} and not math.isnan(out[rows[0]]):
            with_signal += 1
    alpha = 1.0 if correction == "none" else rollouts / max(with_signal, 1)
    return alpha * out / f_norm
