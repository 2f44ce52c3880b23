"""Kimi k1.5's length reward by its definition."""

import numpy as np


def kimi_length_reward(rewards, ids, lengths, *, correct=None, weight=1.0, valid=None):
    keep = [True] * len(rewards) if valid is None else [bool(v) for v in valid]
    right = [r > 0 for r in rewards] if correct is None else [bool(v) for v in correct]
    out = np.zeros(len(rewards))
    for i in range(len(rewards)):
        if keep[i]:
            members = [float(lengths[j]) for j in range(len(ids)) if keep[j] and ids[j] == ids[i]]
            low, high = min(members), max(members)
            lam = 0.5 - (float(lengths[i]) - low) / (high - low) if high > low else 0.0
            out[i] = weight * (lam if right[i] else min(0.0, lam))
    return out
