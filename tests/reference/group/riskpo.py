"""RiskPO: papers, their quantiles and mixed value-at-risk, one bundle after the other."""

import math

import numpy as np


def papers_of(rewards, ids, bundles, order, valid):
    """For each bundle (in order of first appearance) a list of papers, each a list of rows."""
    n = len(rewards)
    rank = list(range(n)) if order is None else [float(v) for v in order]
    out = []
    for bundle in dict.fromkeys(bundles):
        columns = []
        for group in dict.fromkeys(ids[i] for i in range(n) if bundles[i] == bundle):
            column = [i for i in range(n) if ids[i] == group and (valid is None or valid[i])]
            if column:
                columns.append(sorted(column, key=lambda i: rank[i]))
        count = min(map(len, columns), default=0)
        out.append([[column[j] for column in columns] for j in range(count)])
    return out


def bundle_scores(rewards, ids, bundles, *, order=None, valid=None):
    scores, bundle, paper = [], [], np.full(len(rewards), -1)
    for number, papers in enumerate(papers_of(rewards, ids, bundles, order, valid)):
        for rows in papers:
            paper[rows] = len(scores)
            scores.append(math.fsum(float(rewards[i]) for i in rows))
            bundle.append(number)
    return np.array(scores), np.array(bundle, dtype=int), paper


def quantile(values, q):
    """Linear interpolation between order statistics."""
    values = sorted(values)
    at = q * (len(values) - 1)
    below = math.floor(at)
    above = min(below + 1, len(values) - 1)
    return values[below] + (at - below) * (values[above] - values[below])


def riskpo(
    rewards,
    ids,
    bundles,
    *,
    levels=(0.2, 0.9),
    quantiles=None,
    blend=1.0,
    weight=1.5,
    natural_baseline=True,
    scale="none",
    credit="uniform",
    order=None,
    valid=None,
    ddof=1,
    eps=1e-6,
    singleton="zero",
    zero_spread="zero",
):
    out = np.zeros(len(rewards))
    low, high = levels
    for papers in papers_of(rewards, ids, bundles, order, valid):
        scores = [math.fsum(float(rewards[i]) for i in rows) for rows in papers]
        for rows, x in zip(papers, scores, strict=True):
            q_low, q_high = quantile(scores, low), quantile(scores, high)
            if quantiles is not None:
                q_low = blend * quantiles[0] + (1 - blend) * q_low
                q_high = blend * quantiles[1] + (1 - blend) * q_high
            rvar = max(x - q_low, 0) - max(x - q_high, 0) + (q_low - q_high if natural_baseline else 0)
            cvar = -max(q_low - x, 0)
            a = (weight * cvar / (low + eps) + rvar / (high - low + eps)) / (weight + 1)
            if scale == "std" and len(scores) == 1:
                a = {"zero": 0.0, "raw": a / (1 + eps), "nan": math.nan}[singleton]
            elif scale == "std" and min(scores) == max(scores):
                a = {"zero": 0.0, "unscaled": a, "nan": math.nan}[zero_spread]
            elif scale == "std":
                mean = math.fsum(scores) / len(scores)
                a /= math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (len(scores) - ddof)) + eps
            for i in rows:
                share = 1.0 if credit == "uniform" else 0.5 if rewards[i] > 0 else 1.5
                out[i] = share * a
    return out
