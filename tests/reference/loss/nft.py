"""Slow, clear float64 NFT."""

import math

from loss_rows import by_token, clamp


def NFT(
    theta,
    prox,
    advantages,
    weights,
    prompt_weight="dr_grpo",
    eps=1.0,
    negative_weight=1.0,
    min_rate=0.02,
    max_log_ratio=None,
):
    """-w [y log rho + (1 - y) log max((1 - r rho) / (1 - r), eps)], the maximum straight-through."""

    def token(logp, old, a):
        if a == 0:
            return 0.0, 0.0
        right = a > 0
        rate = clamp(1 - a if right else -a, min_rate, 1 - min_rate)
        w = {"dr_grpo": 1 - rate, "grpo": math.sqrt((1 - rate) / rate), "uniform": 1.0}[prompt_weight]
        log_ratio, inside = logp - old, True
        if max_log_ratio is not None:
            inside = log_ratio <= max_log_ratio
            log_ratio = min(log_ratio, max_log_ratio)
        ratio = math.exp(log_ratio)
        if right:
            return -w * log_ratio, -w if inside else 0.0
        w *= negative_weight
        implied = max((1 - rate * ratio) / (1 - rate), eps)
        # d log implied = d implied / implied, with d implied / d rho = -r / (1 - r) on either side of the floor.
        slope = w * rate / (1 - rate) * ratio / implied
        return -w * math.log(implied), slope if inside else 0.0

    return by_token(token, weights, theta, prox, advantages)
