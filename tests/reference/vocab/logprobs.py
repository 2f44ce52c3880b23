"""Slow, clear float64 log-probabilities."""

import math

import numpy as np


def logprobs(logits, labels, temperature=1.0, softcap=None, mask=None, ignore_index=None, allowed=None):
    """``logits`` is ``[N, V]``, ``allowed`` a list of N sets; one number a row."""
    logits = np.asarray(logits, dtype=np.float64)
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(logits))
    out = []
    for i, (row, label, t) in enumerate(zip(logits.tolist(), labels, temperatures, strict=True)):
        if (mask is not None and not mask[i]) or (ignore_index is not None and int(label) == ignore_index):
            out.append(0.0)
            continue
        capped = row
        if softcap is not None:
            capped = [x if math.isinf(x) else softcap * math.tanh(x / softcap) for x in row]
        z = {j: capped[j] / t for j in (range(len(row)) if allowed is None else allowed[i])}
        top = max(z.values(), default=-math.inf)
        if top == -math.inf:
            out.append(math.nan)
            continue
        total = math.fsum(math.exp(x - top) for x in z.values())
        out.append(z.get(int(label), -math.inf) - top - math.log(total))
    return np.array(out)
