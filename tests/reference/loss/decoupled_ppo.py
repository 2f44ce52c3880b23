"""Slow, clear float64 decoupled PPO."""

import math

from loss_rows import by_token, clamp


def DecoupledPPO(
    theta, prox, advantages, weights, behaviour, clip=(0.2, 0.2), dual_clip=None, cap=None, outside="zero"
):
    """PPO's clipped loss of theta over prox, times prox over behaviour."""

    def token(logp, latest, sampler, a):
        weight = math.exp(latest - sampler)
        if cap is not None and weight > cap:
            weight = cap if outside == "truncate" else 0.0
        ratio = math.exp(logp - latest)
        loss = max(-a * ratio, -a * clamp(ratio, 1 - clip[0], 1 + clip[1]))
        slope = -a * ratio if loss == -a * ratio else 0.0
        if dual_clip is not None and a < 0 and loss > -a * dual_clip:
            loss, slope = -a * dual_clip, 0.0
        return weight * loss, weight * slope

    return by_token(token, weights, theta, prox, behaviour, advantages)
