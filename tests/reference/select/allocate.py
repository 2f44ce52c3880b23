"""The best allocation of all, in fractions."""

import math
from fractions import Fraction
from itertools import pairwise, product


def allowed(row, low):
    return [k for k, v in enumerate(row) if k >= low and not math.isnan(v) and v != -math.inf]


def is_concave(row, low):
    ks = allowed(row, low)
    if ks != list(range(ks[0], ks[-1] + 1)):
        return False
    gains = [Fraction(row[b]) - Fraction(row[a]) for a, b in pairwise(ks)]
    return all(later <= earlier for earlier, later in pairwise(gains))


def best(values, *, budget, low):
    """Every allocation of the largest value; ``low`` one a prompt."""
    rows = [allowed(row, least) for row, least in zip(values, low, strict=True)]
    found, most = [], None
    for counts in product(*rows):
        if sum(counts) == budget:
            worth = sum(Fraction(row[k]) for row, k in zip(values, counts, strict=True))
            if most is None or worth > most:
                found, most = [], worth
            if worth == most:
                found.append(list(counts))
    return found, most


def allocate(values, *, budget, low, place=None, method="auto"):
    """The counts, and which of the two ways."""
    n = len(values)
    order = sorted(range(n), key=lambda i: i if place is None else place[i])
    if method != "dp" and all(is_concave(row, least) for row, least in zip(values, low, strict=True)):
        counts = [min(allowed(row, least)) for row, least in zip(values, low, strict=True)]
        rank = {i: at for at, i in enumerate(order)}
        while sum(counts) < budget:
            able = [i for i in range(n) if counts[i] < max(allowed(values[i], low[i]))]
            gains = {i: values[i][counts[i] + 1] - values[i][counts[i]] for i in able}
            counts[min(able, key=lambda i: (-gains[i], counts[i], rank[i]))] += 1
        return counts, "greedy"
    found, _ = best(values, budget=budget, low=low)
    # The last of the prompts as few as it can have, then the one before it.
    return min(found, key=lambda counts: [counts[i] for i in reversed(order)]), "dp"
