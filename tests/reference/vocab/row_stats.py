"""Slow, clear float64 reductions of a row over its vocabulary."""

import math

import numpy as np

NAMES = (
    "logprob",
    "entropy",
    "lse",
    "sum_p_squared",
    "var_logprob",
    "p_max",
    "argmax",
    "mean_logprob",
    "gathered",
)


def cap(x, softcap):
    """A soft-cap keeps what is infinite: -inf is a token that cannot be."""
    return x if softcap is None or math.isinf(x) else softcap * math.tanh(x / softcap)


def distribution(row, t, softcap, allowed):
    """Columns of a row that take part, their log-probabilities (None if there are none) and the log of their sum."""
    columns = range(len(row)) if allowed is None else sorted(allowed)
    z = {j: cap(row[j], softcap) / t for j in columns}
    if any(math.isnan(x) or x == math.inf for x in z.values()):
        return z, None, math.nan
    top = max(z.values(), default=-math.inf)
    if top == -math.inf:
        return z, None, -math.inf
    log_total = math.log(math.fsum(math.exp(x - top) for x in z.values()))
    return z, {j: x - top - log_total for j, x in z.items()}, top + log_total


def pick(logp, token, vocab):
    """Log-probability of a token: NaN if there is no such token, -inf if it cannot be chosen."""
    if not 0 <= token < vocab:
        return math.nan
    return logp.get(token, -math.inf)


def row_stats(
    logits,
    labels=None,
    temperature=1.0,
    softcap=None,
    mask=None,
    ignore_index=None,
    ids=None,
    allowed=None,
):
    """``logits`` is ``[N, V]``, ``ids`` ``[N, K]``, ``allowed`` a list of N sets; an array for each name."""
    logits = np.asarray(logits, dtype=np.float64)
    n, vocab = logits.shape
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), n)
    out = {name: np.zeros(n, dtype=np.int64 if name == "argmax" else np.float64) for name in NAMES}
    out["gathered"] = np.zeros((n, 0 if ids is None else np.shape(ids)[1]))
    for i, row in enumerate(logits.tolist()):
        if mask is not None and not mask[i]:
            continue
        z, logp, lse = distribution(row, float(temperatures[i]), softcap, None if allowed is None else allowed[i])
        out["lse"][i] = lse
        out["argmax"][i] = next((j for j, x in z.items() if x == max(z.values())), 0)
        picked = [] if ids is None else [int(j) for j in ids[i]]
        if logp is None:
            for name in set(NAMES) - {"lse", "argmax"}:
                out[name][i] = math.nan
        else:
            entropy = -math.fsum(math.exp(x) * x for x in logp.values() if x > -math.inf)
            out["entropy"][i] = entropy
            out["sum_p_squared"][i] = math.fsum(math.exp(2 * x) for x in logp.values())
            spread = [math.exp(x) * (x + entropy) ** 2 for x in logp.values() if x > -math.inf]
            out["var_logprob"][i] = math.fsum(spread)
            out["p_max"][i] = math.exp(max(logp.values()))
            impossible = any(x == -math.inf for x in logp.values())
            out["mean_logprob"][i] = -math.inf if impossible else math.fsum(logp.values()) / len(logp)
            out["gathered"][i] = [pick(logp, j, vocab) for j in picked]
            if labels is not None:
                out["logprob"][i] = pick(logp, int(labels[i]), vocab)
        if labels is not None and ignore_index is not None and int(labels[i]) == ignore_index:
            out["logprob"][i] = 0.0
    return out
