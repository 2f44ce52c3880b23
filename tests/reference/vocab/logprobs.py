"""Slow, clear float64 log-probabilities."""

import math

import numpy as np


def logprobs(logits, labels, temperature=1.0):
    """``logits`` is ``[N, V]``; one number a row."""
    logits = np.asarray(logits, dtype=np.float64)
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(logits))
    out = []
    for row, label, t in zip(logits, labels, temperatures, strict=True):
        z = [x / t for x in row.tolist()]
        top = max(z)
        if top == -math.inf:
            out.append(math.nan)
            continue
        total = math.fsum(math.exp(x - top) for x in z)
        out.append(z[int(label)] - top - math.log(total))
    return np.array(out)
