"""Slow, clear float64 GMPO: a loop over sequences and tokens."""

import math


def GMPO(theta, prox, advantages, weights, log_clip=(0.4, 0.4)):
    """All arguments are lists of sequences of tokens: ``(loss of each token, d sum w L / d theta of each token)``."""
    losses, gradients = [], []
    for logp, old, a, w in zip(theta, prox, advantages, weights, strict=True):
        n = len(logp)
        kept, free = [], []
        for new, before, a_t in zip(logp, old, a, strict=True):
            x = new - before
            bounded = min(max(x, -log_clip[0]), log_clip[1])
            # The pessimistic one of the two, by the sign of the advantage.
            c = min(x, bounded) if a_t > 0 else max(x, bounded) if a_t < 0 else 0.0
            kept.append(c)
            free.append(a_t != 0 and c == x)
        loss = -(math.fsum(a) / n) * math.exp(math.fsum(kept) / n) if n else 0.0
        losses.append([loss] * n)
        gradients.append([math.fsum(w) * loss / n if moves else 0.0 for moves in free])
    return losses, gradients
