"""Every subset of a small group, every split of a large one, in fractions."""

import itertools
import math
from collections import Counter
from fractions import Fraction

from subsets import subset


def whole(values):
    """The same numbers as integers, times a power of two that they share."""
    exact = [Fraction(float(v)) for v in values]
    scale = math.lcm(*(f.denominator for f in exact))
    return [int(f * scale) for f in exact]


def variance(x):
    """Times the square of how many there are."""
    return len(x) * sum(v * v for v in x) - sum(x) ** 2


def best(x, keep):
    """The values of largest variance; of several such sets, that with the least sum: the fewest of the large values."""
    ordered = sorted(x)
    if math.comb(len(x), keep) <= 1000:
        found = itertools.combinations(ordered, keep)
    else:
        found = (ordered[: keep - k] + ordered[len(x) - k :] for k in range(keep + 1))
    return max(found, key=lambda part: (variance(part), -sum(part)))


def max_variance(rewards, ids, **options):
    def rule(rows, keep):
        x = dict(zip(rows, whole([rewards[i] for i in rows]), strict=True))
        wanted = Counter(best(list(x.values()), keep))
        kept = []
        for i in rows:
            if wanted[x[i]]:
                wanted[x[i]] -= 1
                kept.append(i)
        return kept

    return subset(rewards, ids, rule, "adds less variance", **options)
