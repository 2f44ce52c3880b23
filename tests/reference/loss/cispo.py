"""Slow, clear float64 CISPO."""

import math

from loss_rows import by_token, clamp


def CISPO(theta, prox, advantages, weights, clip=None, cap=None, max_log_ratio=None):
    """-A sg(clipped ratio) log p; either relative bounds around 1 or an absolute upper one."""

    def token(logp, old, a):
        log_ratio = logp - old
        if max_log_ratio is not None:
            log_ratio = clamp(log_ratio, -max_log_ratio, max_log_ratio)
        ratio = math.exp(log_ratio)
        low, high = (0.0, cap) if clip is None else (1 - clip[0], 1 + clip[1])
        weight = clamp(ratio, low, high)
        return -weight * a * logp, -weight * a

    return by_token(token, weights, theta, prox, advantages)
