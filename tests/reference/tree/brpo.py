"""BRPO, one chain of thought and budget at a time, every sum written out."""

import math


def _mean(x):
    return math.fsum(x) / len(x)


def brpo(scores, probabilities, groups, baseline="both", discount=2.0):
    """``scores[g][s][a]``."""
    budgets = len(probabilities)
    p = [q / math.fsum(probabilities) for q in probabilities]
    c = [[_mean(row) for row in chain] for chain in scores]
    returns = [[math.fsum(p[j] * row[j] for j in range(s, budgets)) for s in range(budgets)] for row in c]
    out = []
    for g, row in enumerate(c):
        mates = [h for h in range(len(c)) if groups[h] == groups[g]]
        advantages = []
        for s in range(budgets):
            past, group = 0.0, 0.0
            if s:
                weights = [discount**j for j in range(s)]
                past = math.fsum(w * x for w, x in zip(weights, row[:s], strict=True)) / math.fsum(weights)
                past *= math.fsum(p[s:])
            if len(mates) > 1:
                group = _mean([returns[h][s] for h in mates])
            base = {
                "both": (s * past + (budgets - s) * group) / budgets,
                "past": past,
                "group": group,
                "none": 0.0,
            }[baseline]
            advantages.append(returns[g][s] - base)
        out.append(advantages)
    return out


def brpo_summary(scores, groups, finished, last_only=False):
    out = []
    for g, chain in enumerate(scores):
        rows = []
        for s, row in enumerate(chain):
            if len(row) == 1:
                pool = [scores[h][s][0] for h in range(len(scores)) if groups[h] == groups[g]]
            elif s >= finished[g]:
                pool = [x for other in chain[finished[g] :] for x in other]
            else:
                pool = row
            rows.append([x - _mean(pool) for x in row])
        if last_only:
            rows = [[0.0] * len(row) for row in rows[:-1]] + [[0.0] * (len(chain[-1]) - 1) + [rows[-1][-1]]]
        out.append(rows)
    return out
