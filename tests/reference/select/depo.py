"""DEPO by its definitions."""

import math
from fractions import Fraction

from uid_order import preferred


def explorability(advantages, entropy, *, max_entropy, valid=None):
    rows = zip(advantages, entropy, valid or [True] * len(advantages), strict=True)
    return [abs(a) * e if there and e <= max_entropy else 0.0 for a, e, there in rows]


def depo(scores, prompts, *, keep=None, share=None, visits=None, neglected=None, among="all", seed=None, valid=None):
    """``share`` and ``neglected`` are decimals, as strings; a missing score is None."""
    n = len(prompts)
    there = [i for i in preferred(n, uid=prompts, seed=seed) if valid is None or valid[i]]
    size = keep if share is None else max(int(Fraction(share) * len(there)), 1)
    known = [i for i in there if scores[i] is not None]
    top = sorted(known, key=lambda i: -scores[i])[:size]
    least = []
    if visits is not None:
        rest = there if among == "all" else [i for i in there if i not in top]
        least = sorted(rest, key=lambda i: visits[i])[: int(Fraction(neglected) * len(there))]
    return sorted({*top, *least})


def normal_weights(success_rates, *, mu, sigma, valid=None):
    there = [i for i in range(len(success_rates)) if valid is None or valid[i]]
    density = {
        i: math.exp(-((success_rates[i] - mu) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi)) for i in there
    }
    total = sum(density.values())
    return [density[i] / total if i in density else 0.0 for i in range(len(success_rates))]
