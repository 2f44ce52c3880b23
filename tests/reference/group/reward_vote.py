"""Rewards by vote, from a counter of the answers of each group."""

import math
from collections import Counter

import numpy as np


def _counters(answers, ids, valid):
    keep = [True] * len(ids) if valid is None else [bool(v) for v in valid]
    counters = {}
    for answer, group, kept in zip(answers, ids, keep, strict=True):
        if kept:
            counters.setdefault(group, Counter())[answer] += 1
    return keep, counters


def vote_reward(answers, ids, *, alpha=0.75, normalized=False, valid=None):
    keep, counters = _counters(answers, ids, valid)
    out = np.zeros(len(ids))
    for i, group in enumerate(ids):
        if keep[i]:
            shares = {a: c / counters[group].total() for a, c in counters[group].items()}
            entropy = -math.fsum(p * math.log(p) for p in shares.values())
            if normalized:
                entropy = entropy / math.log(len(shares)) if len(shares) > 1 else 0.0
            out[i] = shares[answers[i]] - alpha * entropy
    return out


def majority_reward(answers, ids, *, ties="split", valid=None):
    keep, counters = _counters(answers, ids, valid)
    out = np.zeros(len(ids))
    for i, group in enumerate(ids):
        if keep[i]:
            most = max(counters[group].values())
            best = [a for a, c in counters[group].items() if c == most]
            if ties == "first":
                best = best[:1]
            if answers[i] in best and (ties != "none" or len(best) == 1):
                out[i] = 1 / len(best)
    return out
