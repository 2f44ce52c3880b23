"""The regularised policy by plain bisection of alpha, with 100 digits."""

from decimal import Decimal, getcontext

getcontext().prec = 100


def family_policy(q, p, lam):
    """pi of one family, with a positive ``lam``."""
    q, p, lam = [Decimal(float(x)) for x in q], [Decimal(float(x)) for x in p], Decimal(float(lam))
    there = [i for i in range(len(q)) if p[i] > 0]
    low = max(q[i] + lam * p[i] for i in there)
    high = max(q[i] for i in there) + lam * sum(p)
    for _ in range(250):
        alpha = (low + high) / 2
        if sum(lam * p[i] / (alpha - q[i]) for i in there) > 1:
            low = alpha
        else:
            high = alpha
    return [lam * p[i] / (high - q[i]) if i in there else Decimal(0) for i in range(len(q))]


def regularized_policy(parents, values, visits, priors, *, c=1.0, lam=None):
    out = [0.0] * len(parents)
    for parent in {int(p) for p in parents if p >= 0}:
        family = [v for v, p in enumerate(parents) if p == parent]
        q, p = [values[v] for v in family], [priors[v] for v in family]
        n = sum(visits[v] for v in family)
        heat = c * n**0.5 / (len(family) + n) if lam is None else lam
        if n == 0:
            policy = [x / sum(p) for x in p]
        elif heat == 0:
            best = max(value for value, x in zip(q, p, strict=True) if x > 0)
            top = [x if value == best else 0.0 for value, x in zip(q, p, strict=True)]
            policy = [x / sum(top) for x in top]
        else:
            policy = family_policy(q, p, heat)
        for v, x in zip(family, policy, strict=True):
            out[v] = float(x)
    return out
