"""Slow, clear float64 GSPO and LUSPO: loops over sequences and tokens."""

import math


def GSPO(theta, prox, advantages, weights, clip=(3e-4, 4e-4), gradient="sequence", max_log_ratio=None, by_length=False):
    """All arguments are lists of sequences of tokens: ``(loss of each token, d sum w L / d theta of each token)``."""
    losses, gradients = [], []
    for logp, old, a, w in zip(theta, prox, advantages, weights, strict=True):
        n = len(logp)
        mean = math.fsum(x - y for x, y in zip(logp, old, strict=True)) / n if n else 0.0
        moves = max_log_ratio is None or mean <= max_log_ratio
        s = math.exp(mean if moves else max_log_ratio)
        clipped = min(max(s, 1 - clip[0]), 1 + clip[1])
        factor = n if by_length else 1
        loss, wanted = [], []
        for a_t, w_t in zip(a, w, strict=True):
            plain, bounded = -a_t * s, -a_t * clipped
            loss.append(factor * max(plain, bounded))
            wanted.append(factor * w_t * plain if moves and plain >= bounded else 0.0)
        losses.append(loss)
        gradients.append(wanted if gradient == "token" else [math.fsum(wanted) / n for _ in logp])
    return losses, gradients


def LUSPO(*columns, **options):
    """GSPO, each loss times the number of tokens of its sequence."""
    return GSPO(*columns, **options, by_length=True)
