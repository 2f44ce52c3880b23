"""Slow, clear float64 aggregation of values over rows, by its definition: sums over units."""

import math


def aggregate(values, mask, units, within, counted, divisor=1.0, coef=1.0):
    """Rows of positions; ``units`` names the unit of each row (None: a token is one), ``counted`` how many there are.

    Returns the sum over units of the mean (``within="mean"``) or sum of their trained values, over ``counted *
    divisor``, times ``coef``; and the derivative of it in rows.
    """
    members = {}
    for i, row in enumerate(mask):
        for t, trained in enumerate(row):
            if trained:
                members.setdefault((i, t) if units is None else units[i], []).append((i, t))
    gradient = [[0.0] * len(row) for row in mask]
    terms = []
    for tokens in members.values():
        n = len(tokens) if within == "mean" else 1
        for i, t in tokens:
            weight = coef / (n * counted * divisor)
            terms.append(weight * values[i][t])
            gradient[i][t] = weight
    return math.fsum(terms), gradient
