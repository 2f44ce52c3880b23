"""COPO: entropies of answers, z-scores within and across groups, and their blend."""

import math
from collections import Counter

import numpy as np


def z_scores(values, ddof, eps, singleton):
    if any(map(math.isnan, values)):
        return [math.nan] * len(values)
    if len(values) == 1:
        return [{"zero": 0.0, "raw": values[0] / (1 + eps), "nan": math.nan}[singleton]]
    if len(values) == 0 or min(values) == max(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - ddof))
    return [(v - mean) / (std + eps) for v in values]


def entropy(answers):
    n = len(answers)
    return math.fsum(-c / n * math.log2(c / n) for c in Counter(answers).values())


def copo(
    rewards,
    ids,
    answers,
    *,
    steepness=20.0,
    threshold=0.5,
    consistency_penalty=False,
    forced=False,
    valid=None,
    ddof=1,
    eps=1e-6,
    singleton="zero",
    nan="raise",
):
    r = [float(v) for v in rewards]
    keep = [valid is None or bool(valid[i]) for i in range(len(r))]
    if nan == "omit":
        keep = [k and not math.isnan(v) for k, v in zip(keep, r, strict=True)]
    groups = [g for g in dict.fromkeys(ids) if any(keep[i] for i in range(len(r)) if ids[i] == g)]
    rows = {g: [i for i in range(len(r)) if ids[i] == g and keep[i]] for g in groups}
    bits = {g: entropy([answers[i] for i in rows[g]]) for g in groups}
    mean = {}
    for g in groups:
        n = len(rows[g])
        mean[g] = math.fsum(r[i] for i in rows[g]) / n if n else 0.0
        if len({r[i] for i in rows[g]}) == 1:
            mean[g] = r[rows[g][0]]
        if consistency_penalty and n > 1:
            mean[g] *= 1 - bits[g] * (1 - 1 / n) / math.log2(n)
    local, across, weight = np.zeros(len(r)), np.zeros(len(r)), np.zeros(len(r))
    compared = z_scores([mean[g] for g in groups], ddof, eps, singleton)
    for g, other in zip(groups, compared, strict=True):
        own = z_scores([r[i] for i in rows[g]], ddof, eps, singleton)
        w = 1 / (1 + math.exp(-steepness * (bits[g] - threshold)))
        if forced and all(z == 0 for z in own):
            w = 0.0
        for i, z in zip(rows[g], own, strict=True):
            local[i], across[i], weight[i] = z, other, w
    return weight * local + (1 - weight) * across, local, across, weight
