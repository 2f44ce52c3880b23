"""Slow, clear float64 scores of responses."""

import math


def sequence_scores(theta, mask, members, other=None, how="sum"):
    """``(score, number of trained tokens)`` of each response; ``members`` has the rows of each of them."""
    out = []
    for rows in members:
        terms = [
            theta[i][t] - (other[i][t] if other else 0.0) for i in rows for t in range(len(theta[i])) if mask[i][t]
        ]
        total = math.fsum(terms)
        out.append((total / len(terms) if how == "mean" and terms else total, len(terms)))
    return out
