"""Slow, clear float64 statistics of the rows of a linear layer, which are multiplied out."""

import math

import numpy as np


def linear_row_stats(hidden, weight, labels, *, bias=None, temperature=1.0, softcap=None, ids=None):
    """``hidden`` is ``[N, H]``, ``weight`` is ``[V, H]``; a dict of arrays ``[N]``, ``gathered`` is ``[N, K]``."""
    hidden, weight = (np.asarray(x, dtype=np.float64) for x in (hidden, weight))
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(hidden))
    offsets = np.zeros(len(weight)) if bias is None else np.asarray(bias, dtype=np.float64)
    rows = []
    for number, (h, label, t) in enumerate(zip(hidden, labels, temperatures, strict=True)):
        x = [math.fsum(h * w) + b for w, b in zip(weight, offsets, strict=True)]
        if softcap is not None:
            x = [softcap * math.tanh(y / softcap) for y in x]
        z = [y / t for y in x]
        top = max(z)
        log_total = math.log(math.fsum(math.exp(y - top) for y in z))
        logp = [y - top - log_total for y in z]
        p = [math.exp(y) for y in logp]
        entropy = -math.fsum(a * b for a, b in zip(p, logp, strict=True) if a > 0)
        rows.append(
            {
                "logprob": logp[int(label)],
                "entropy": entropy,
                "lse": top + log_total,
                "sum_p_squared": math.fsum(a * a for a in p),
                "var_logprob": math.fsum(a * (b + entropy) ** 2 for a, b in zip(p, logp, strict=True) if a > 0),
                "p_max": max(p),
                "argmax": int(np.argmax(x)),
                "mean_logprob": math.fsum(logp) / len(logp),
                "gathered": [] if ids is None else [logp[int(token)] for token in ids[number]],
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]} if rows else {}
