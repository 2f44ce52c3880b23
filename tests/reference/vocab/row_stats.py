"""Slow, clear float64 reductions of a row over its vocabulary."""

import math

import numpy as np


def row_stats(logits, labels, temperature=1.0):
    """``logits`` is ``[N, V]``; a dict of four arrays ``[N]``."""
    logits = np.asarray(logits, dtype=np.float64)
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(logits))
    rows = []
    for row, label, t in zip(logits, labels, temperatures, strict=True):
        z = [x / t for x in row.tolist()]
        top = max(z)
        if top == -math.inf:
            rows.append((math.nan, math.nan, -math.inf, math.nan))
            continue
        log_total = math.log(math.fsum(math.exp(x - top) for x in z))
        logp = [x - top - log_total for x in z]
        entropy = -math.fsum(math.exp(x) * x for x in logp if x > -math.inf)
        squares = math.fsum(math.exp(2 * x) for x in logp)
        rows.append((logp[int(label)], entropy, top + log_total, squares))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return dict(zip(("logprob", "entropy", "lse", "sum_p_squared"), columns, strict=True))
