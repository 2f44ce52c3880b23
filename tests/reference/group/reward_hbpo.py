"""HBPO's reward and advantage by the paper's equations."""

import math

import numpy as np


def hbpo_reward(rewards, lengths, budgets, *, max_length, correct=None, alpha=1 / 4096, beta=4.0, within="flat"):
    right = [r > 0 for r in rewards] if correct is None else [bool(v) for v in correct]
    out = np.zeros(len(rewards))
    for i in range(len(rewards)):
        n, b = float(lengths[i]), float(budgets[i])
        f1 = beta * math.cos(math.pi * n / (2 * max_length)) - alpha * abs(n - b)
        f2 = beta * math.cos(math.pi * b / (2 * max_length))
        if right[i] and n <= max_length:
            out[i] = min(f1, f2) if within == "capped" else f2 if n <= b else f1
    return out


def hbpo(rewards, ids, budgets, *, max_length, beta=4.0, intra=1.0, valid=None, ddof=1, eps=1e-6, nan="raise"):
    r = [float(v) for v in rewards]
    keep = [True] * len(r) if valid is None else [bool(v) for v in valid]
    if nan == "omit":
        keep = [k and not math.isnan(v) for k, v in zip(keep, r, strict=True)]
    out = np.zeros(len(r))
    for i in range(len(r)):
        if not keep[i]:
            continue
        group = [r[j] for j in range(len(r)) if keep[j] and ids[j] == ids[i]]
        cell = [r[j] for j in range(len(r)) if keep[j] and ids[j] == ids[i] and budgets[j] == budgets[i]]
        expected = beta * math.cos(math.pi * budgets[i] / (2 * max_length))
        first = math.fsum(cell) / len(cell) - expected
        second = 0.0
        if any(math.isnan(v) for v in group):
            second = math.nan
        elif len(group) > 1 and max(group) > min(group):
            mean = math.fsum(group) / len(group)
            std = math.sqrt(math.fsum((v - mean) ** 2 for v in group) / (len(group) - ddof))
            second = (r[i] - mean) / (std + eps)
        out[i] = intra * first + second
    return out
