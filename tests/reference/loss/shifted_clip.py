"""Slow, clear float64 clip around the latest policy."""

import math

from loss_rows import by_token, clamp


def ShiftedClip(theta, prox, advantages, weights, behaviour, eps=0.2):
    """The larger of -A rho and -A clamp(rho), rho over behaviour, the interval around prox over behaviour."""

    def token(logp, latest, sampler, a):
        ratio, center = math.exp(logp - sampler), math.exp(latest - sampler)
        bounded = clamp(ratio, max(center - eps, 0.0), center + eps)
        loss = max(-a * ratio, -a * bounded)
        return loss, -a * ratio if loss == -a * ratio else 0.0

    return by_token(token, weights, theta, prox, behaviour, advantages)
