"""Slow, clear float64 Simple Policy Optimization."""

import math

from loss_rows import by_token, clamp


def SimplePO(theta, prox, advantages, weights, eps=0.2, max_log_ratio=None):
    """-(A rho - |A| (rho - 1)^2 / (2 eps))."""

    def token(logp, old, a):
        log_ratio, inside = logp - old, True
        if max_log_ratio is not None:
            inside = abs(log_ratio) <= max_log_ratio
            log_ratio = clamp(log_ratio, -max_log_ratio, max_log_ratio)
        ratio = math.exp(log_ratio)
        loss = -(a * ratio - abs(a) * (ratio - 1) ** 2 / (2 * eps))
        by_ratio = -(a - abs(a) * (ratio - 1) / eps)
        return loss, by_ratio * ratio if inside else 0.0

    return by_token(token, weights, theta, prox, advantages)
