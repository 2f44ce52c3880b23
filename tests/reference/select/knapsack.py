"""Rollouts handed out one after another, in fractions."""

from fractions import Fraction


def knapsack_value(counts, success_rates):
    out = []
    for n, rate in zip(counts, success_rates, strict=True):
        p = Fraction(float(rate))
        mixed = 1 - p ** int(n) - (1 - p) ** int(n) if n else 0
        out.append(mixed * p * (1 - p) ** 2)
    return out


def gain(n, rate):
    """Of rollout n + 1."""
    more, less = (knapsack_value([k], [rate])[0] for k in (n + 1, n))
    return more - less


def knapsack(success_rates, *, budget, low, high, spare="unsolved", place=None, valid=None):
    """``low`` and ``high`` one a prompt; the counts."""
    n = len(success_rates)
    there = [True] * n if valid is None else list(valid)
    order = list(range(n)) if place is None else list(place)
    counts = [low[i] if there[i] else 0 for i in range(n)]
    for _ in range(budget - sum(counts)):
        able = [i for i in range(n) if there[i] and counts[i] < high[i]]
        gains = {i: gain(counts[i], success_rates[i]) for i in able}
        if not any(gains.values()):
            if spare == "leave":
                break
            unsolved = [i for i in able if success_rates[i] == 0]
            able = unsolved if unsolved and spare == "unsolved" else able
        counts[min(able, key=lambda i: (-gains[i], counts[i], order[i]))] += 1
    return counts
