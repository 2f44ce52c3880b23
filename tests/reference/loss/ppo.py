"""Slow, clear float64 PPO objective."""

import math


def PPO(theta, prox, advantage, clip=(0.2, 0.2), dual_clip=None, max_log_ratio=None):
    """``(loss, d loss / d theta)`` of one token, from the definition with max, min and clip."""
    log_ratio, inside = theta - prox, True
    if max_log_ratio is not None:
        inside = abs(log_ratio) <= max_log_ratio
        log_ratio = min(max(log_ratio, -max_log_ratio), max_log_ratio)
    rho = math.exp(log_ratio)
    bounded = min(max(rho, 1 - clip[0]), 1 + clip[1])
    loss = max(-advantage * rho, -advantage * bounded)
    slope = -advantage * rho if inside and loss == -advantage * rho else 0.0
    if dual_clip is not None and advantage < 0 and loss > -advantage * dual_clip:
        loss, slope = -advantage * dual_clip, 0.0
    return loss, slope
