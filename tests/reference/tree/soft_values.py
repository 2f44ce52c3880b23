"""Soft values, leaf by leaf or child by child."""

import math
from decimal import Decimal, localcontext

from forest import children, path


def logmeanexp(values, beta):
    if beta == 0:
        return max(values)
    if math.isinf(beta):
        return math.fsum(values) / len(values)
    top = max(values)
    # log(mean(exp)), written so that no digits are lost at high temperatures, where all exponentials are near 1.
    return top + beta * math.log1p(math.fsum(math.expm1((v - top) / beta) for v in values) / len(values))


def soft_values(parents, leaf_nodes, rewards, *, beta=0.5, over="leaves"):
    reward = {int(leaf): float(r) for leaf, r in zip(leaf_nodes, rewards, strict=True)}
    below = children(parents)

    def value(v):
        if v in reward:
            return reward[v]
        if over == "children":
            return logmeanexp([value(c) for c in below[v]], beta)
        return logmeanexp([r for leaf, r in reward.items() if v in path(parents, leaf)], beta)

    return [value(v) for v in range(len(parents))]


def er_prm(success_rates, *, c=1.0):
    """With 400 digits, so that nothing cancels."""
    if c == 0:
        return [float(p) for p in success_rates]
    with localcontext() as context:
        context.prec = 400
        c = Decimal(c)
        return [float(abs((1 - Decimal(float(p)) + Decimal(float(p)) * c.exp()).ln() / c)) for p in success_rates]
