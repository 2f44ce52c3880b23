"""ADORA: a z-score, then a gate, one group after the other."""

import math

import numpy as np


def z_scores(values, ddof, eps, singleton):
    if any(map(math.isnan, values)):
        return [math.nan] * len(values)
    if len(values) == 1:
        return [{"zero": 0.0, "raw": values[0] / (1 + eps), "nan": math.nan}[singleton]]
    if not values or min(values) == max(values):
        return [0.0] * len(values)
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - ddof))
    return [(v - mean) / (std + eps) for v in values]


def adora(
    rewards,
    ids,
    lengths,
    *,
    weight=0.1,
    correct=None,
    truncated=None,
    no_correct="scale",
    no_incorrect="keep",
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
    out = np.zeros(len(r))
    for group in dict.fromkeys(ids):
        members = [i for i in range(len(r)) if ids[i] == group and keep[i]]
        right = [i for i in members if (r[i] > 0 if correct is None else correct[i])]
        wrong = [i for i in members if i not in right and not (truncated is not None and truncated[i])]
        if not right:
            opened = no_correct == "keep"
        elif not wrong:
            opened = no_incorrect == "keep"
        else:
            opened = max(lengths[i] for i in right) > math.fsum(lengths[i] for i in wrong) / len(wrong)
        for i, z in zip(members, z_scores([r[i] for i in members], ddof, eps, singleton), strict=True):
            out[i] = z if opened else weight * z
    return out
