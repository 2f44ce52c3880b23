"""Slow, clear float64 TOPR."""

import math

from loss_rows import by_token, clamp


def TOPR(theta, prox, advantages, weights, positive=(1.0, 1.0), negative=(0.0, 1.0), positive_weight=1.0):
    """-A c log p, c the ratio between the bounds of the sign of A."""

    def token(logp, old, a):
        ratio = math.exp(logp - old)
        c = positive_weight * clamp(ratio, *positive) if a > 0 else clamp(ratio, *negative)
        return -c * a * logp, -c * a

    return by_token(token, weights, theta, prox, advantages)
