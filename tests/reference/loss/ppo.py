"""Slow, clear float64 PPO objective."""

import math
import sys


def PPO(
    theta,
    prox,
    advantages,
    weights,
    clip=(0.2, 0.2),
    dual_clip=None,
    delta=None,
    max_log_ratio=None,
    largest=sys.float_info.max,
):
    """Lists of rows of floats; ``(L of each token, derivative of sum w L by theta of each token)``, in rows too."""
    losses, gradients = [], []
    for row in zip(theta, prox, advantages, weights, strict=True):
        tokens = [
            (*_token(t, p, a, clip, dual_clip, delta, max_log_ratio, largest), w)
            for t, p, a, w in zip(*row, strict=True)
        ]
        losses.append([loss for loss, _, _ in tokens])
        gradients.append([w * slope for _, slope, w in tokens])
    return losses, gradients


def _token(theta, prox, advantage, clip, dual_clip, delta, max_log_ratio, largest):
    """``(loss, d loss / d theta)`` of one token, from the definition with max, min and clip."""
    log_ratio, inside = theta - prox, True
    if max_log_ratio is not None:
        inside = abs(log_ratio) <= max_log_ratio
        log_ratio = min(max(log_ratio, -max_log_ratio), max_log_ratio)
    rho = math.exp(log_ratio) if log_ratio < math.log(largest) else largest
    bounded = min(max(rho, 1 - clip[0]), 1 + clip[1])
    raw = rho if delta is None else min(rho, delta)
    loss = max(-advantage * raw, -advantage * bounded)
    # The derivative of the branch that max picks; where both are equal, that of rho itself if either is rho.
    picked = [x for x in (raw, bounded) if -advantage * x == loss]
    slope = -advantage * rho if inside and advantage != 0 and rho in picked else 0.0
    if dual_clip is not None and advantage < 0 and loss > -advantage * dual_clip:
        loss, slope = -advantage * dual_clip, 0.0
    return loss, slope
