"""Slow, clear float64 DPPO."""

import math

from loss_rows import by_token


def DPPO(theta, prox, advantages, weights, divergence="tv", bounds=(0.2, 0.2), cap=20.0, eps=1e-8):
    """-A sg(min(rho, cap)) log p for tokens that stay in the trust region of their probability."""
    lo, hi = bounds

    def token(logp, old, a):
        p, q = math.exp(logp), math.exp(old)
        if divergence == "tv":
            distance = abs(p - q)
        else:
            distance = q * math.log(q / p) + (1 - q) * math.log((1 - q + eps) / (1 - p + eps))
        leaves = (a > 0 and p > q and distance > hi) or (a < 0 and p < q and distance > lo)
        ratio = math.exp(logp - old)
        weight = 0.0 if leaves else ratio if cap is None else min(ratio, cap)
        return -weight * a * logp, -weight * a

    return by_token(token, weights, theta, prox, advantages)
