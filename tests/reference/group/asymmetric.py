"""PSR, NSR and W-REINFORCE: one weight for rewards above the threshold, another for the rest."""

import numpy as np


def w_reinforce(rewards, *, positive=0.1, negative=-1.0, threshold=0.5, valid=None):
    out = np.zeros(len(rewards))
    for i, r in enumerate(rewards):
        if valid is None or valid[i]:
            out[i] = positive if float(r) > threshold else negative
    return out


def psr(rewards, *, threshold=0.5, valid=None):
    return w_reinforce(rewards, positive=1.0, negative=0.0, threshold=threshold, valid=valid)


def nsr(rewards, *, threshold=0.5, valid=None):
    return w_reinforce(rewards, positive=0.0, negative=-1.0, threshold=threshold, valid=valid)
