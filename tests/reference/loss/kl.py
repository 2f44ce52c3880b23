"""Slow, clear float64 KL terms: one token at a time, from the definitions."""

import math


def estimate(kind, delta):
    """``(K, dK / d delta)``."""
    if kind == "k1":
        return delta, 1.0
    if kind == "k2":
        return delta * delta / 2, delta
    if kind == "abs":
        return abs(delta), (delta > 0) - (delta < 0)
    if abs(delta) < 0.01:  # the series, where the definition cancels
        return math.fsum((-delta) ** n / math.factorial(n) for n in range(2, 12)), -math.expm1(-delta)
    return math.exp(-delta) + delta - 1, 1 - math.exp(-delta)


def kl_estimate(theta, ref, kind, max_log_ratio=None, max_value=None):
    """Lists of numbers; a list."""
    out = []
    for x, y in zip(theta, ref, strict=True):
        delta = x - y
        if max_log_ratio is not None:
            delta = min(max(delta, -max_log_ratio), max_log_ratio)
        value = estimate(kind, delta)[0]
        if max_value is not None:
            value = min(max(value, -max_value), max_value)
        out.append(value)
    return out


def KL(theta, ref, prox, weights, coef, kind="k3", gradient="own", importance=None, max_log_ratio=None, max_value=None):
    """Rows of floats; ``(loss of each token, derivative of sum w L, value of each token without coef)`` in rows."""
    losses, gradients, values = [], [], []
    for row in zip(theta, ref, prox, weights, strict=True):
        losses.append([])
        gradients.append([])
        values.append([])
        for x, y, old, w in zip(*row, strict=True):
            delta, moves = x - y, True
            if max_log_ratio is not None and abs(delta) > max_log_ratio:
                delta, moves = math.copysign(max_log_ratio, delta), False
            value, slope = estimate(kind, delta)
            if max_value is not None and abs(value) > max_value:
                value, moves = math.copysign(max_value, value), False
            if not moves:
                slope = 0.0
            if gradient == "k2":
                slope = x - y
            rho = math.exp(x - old)
            if importance == "detached":
                value, slope = rho * value, rho * slope
            if importance == "ratio":
                value, slope = rho * value, rho * slope + rho * value
            losses[-1].append(coef * value)
            gradients[-1].append(w * coef * slope)
            values[-1].append(value)
    return losses, gradients, values
