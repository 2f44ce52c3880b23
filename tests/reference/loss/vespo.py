"""Slow, clear float64 VESPO: a loop over sequences and tokens."""

import math

LEAST = math.log(1e-8)


def _clamp(x, low, high):
    return min(max(x, low), high)


def VESPO(
    theta, prox, advantages, weights, behaviour=None, cap=None, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0
):
    """All arguments are lists of sequences of tokens: ``(loss of each token, d sum w L / d theta of each token)``."""
    losses, gradients = [], []
    for i, (logp, old, a, w) in enumerate(zip(theta, prox, advantages, weights, strict=True)):
        log_w = math.fsum(_clamp(x - y, -20.0, 20.0) for x, y in zip(logp, old, strict=True))
        if behaviour is not None:
            for y, sampled in zip(old, behaviour[i], strict=True):
                rho = math.exp(y - sampled)
                log_w += _clamp(math.log(rho if cap is None else min(rho, cap)), LEAST, 20.0)
        ratio = math.exp(_clamp(log_w, LEAST, 20.0))
        loss, gradient = [], []
        for new, a_t, w_t in zip(logp, a, w, strict=True):
            k, decay = (k_pos, lambda_pos) if a_t >= 0 else (k_neg, lambda_neg)
            phi = math.exp(decay) * ratio**k * math.exp(-decay * ratio)
            loss.append(-phi * a_t * new)
            gradient.append(-phi * a_t * w_t)
        losses.append(loss)
        gradients.append(gradient)
    return losses, gradients
