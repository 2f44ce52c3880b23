"""Slow, clear float64 value loss: one token at a time."""

import math


def error(e, kind, delta):
    """``(l(e), l'(e))``."""
    if kind == "huber" and abs(e) > delta:
        return delta * (abs(e) - delta / 2), math.copysign(delta, e)
    return e * e / 2, e


def value_loss(values, returns, old_values, weights, clip=None, kind="squared", huber_delta=10.0):
    """Lists of trained tokens; ``(loss, gradient of each, share that is clipped)``."""
    terms, gradient, clipped = [], [], 0
    for v, target, old, w in zip(values, returns, old_values, weights, strict=True):
        loss, slope = error(v - target, kind, huber_delta)
        if clip is not None:
            bounded = error(min(max(v, old - clip), old + clip) - target, kind, huber_delta)[0]
            if bounded > loss:
                loss, slope, clipped = bounded, 0.0, clipped + 1
        terms.append(w * loss)
        gradient.append(w * slope)
    return math.fsum(terms), gradient, clipped / max(len(terms), 1)


def explained_variance(values, returns):
    """From the definition, two passes."""
    n = len(values)
    errors = [r - v for v, r in zip(values, returns, strict=True)]

    def variance(x):
        mean = math.fsum(x) / n
        return math.fsum((y - mean) ** 2 for y in x) / n

    return 1 - variance(errors) / variance(returns)
