"""Slow, clear float64 SAPO."""

import math

from loss_rows import by_token, clamp


def SAPO(theta, prox, advantages, weights, tau_pos=1.0, tau_neg=1.05, max_log_ratio=None):
    """-A (4 / tau) sigmoid(tau (rho - 1)), with the temperature of the sign of A."""

    def token(logp, old, a):
        log_ratio, inside = logp - old, True
        if max_log_ratio is not None:
            inside = abs(log_ratio) <= max_log_ratio
            log_ratio = clamp(log_ratio, -max_log_ratio, max_log_ratio)
        ratio = math.exp(log_ratio)
        tau = tau_pos if a > 0 else tau_neg
        u = math.exp(-tau * (ratio - 1))
        gate = 1 / (1 + u)
        # d gate / d rho = tau gate (1 - gate), and d rho / d log p = rho.
        slope = -a * 4 * (u / (1 + u) ** 2) * ratio
        return -a * 4 / tau * gate, slope if inside else 0.0

    return by_token(token, weights, theta, prox, advantages)
