"""TempSamp-R1's soft reward and anchored advantage, number by number."""

import math

import numpy as np


def tempsamp_reward(rewards, *, tau=0.8, alpha1=0.01, alpha2=1.0):
    out = []
    for r in map(float, rewards):
        if r >= tau:
            out.append(tau + alpha1 * math.log(r - tau + 1))
        else:
            out.append(tau - (math.exp(alpha2 * (tau - r)) - 1) / (math.exp(alpha2) - 1))
    return np.array(out)


def tempsamp_anchor(advantages, ids, off_policy, *, factor=1.2, valid=None):
    keep = [True] * len(ids) if valid is None else [bool(v) for v in valid]
    out = np.zeros(len(ids))
    for i in range(len(ids)):
        if keep[i] and off_policy[i]:
            own = [advantages[j] for j in range(len(ids)) if keep[j] and not off_policy[j] and ids[j] == ids[i]]
            out[i] = factor * max(own) if own else 0.0
        elif keep[i]:
            out[i] = advantages[i]
    return out
