"""Slow, clear float64 KL divergences over the vocabulary."""

import math

import numpy as np


def log_softmax(row, t):
    z = [x / t for x in row]
    top = max(z)
    if top == -math.inf:
        return [math.nan] * len(z)
    log_total = math.log(math.fsum(math.exp(x - top) for x in z))
    return [x - top - log_total for x in z]


def divergence(log_p, log_q):
    """``sum p (log p - log q)`` with 0 log 0 = 0."""
    terms = []
    for x, y in zip(log_p, log_q, strict=True):
        if math.exp(x) > 0 and y == -math.inf:
            return math.inf
        terms.append(math.exp(x) * (x - y) if math.exp(x) != 0 else 0.0)
    return math.fsum(terms)


def log_of(x):
    return math.log(x) if x > 0 else -math.inf


def kl(logits, ref_logits, direction="reverse", temperature=1.0, top_k=None, tail=True):
    """``[N, V]`` each; one number a row."""
    temperatures = np.broadcast_to(np.asarray(temperature, dtype=np.float64), len(logits))
    out = []
    for row, ref, t in zip(np.asarray(logits).tolist(), np.asarray(ref_logits).tolist(), temperatures, strict=True):
        log_p, log_q = log_softmax(row, t), log_softmax(ref, t)
        if top_k is not None:
            order = sorted(range(len(row)), key=lambda j: -log_p[j])
            first, rest = order[:top_k], order[top_k:]
            tails = [log_of(math.fsum(math.exp(x[j]) for j in rest)) for x in (log_p, log_q)]
            log_p = [log_p[j] for j in first] + [tails[0]] * tail
            log_q = [log_q[j] for j in first] + [tails[1]] * tail
        out.append(divergence(log_p, log_q) if direction == "reverse" else divergence(log_q, log_p))
    return np.array(out)


def top_k_kl(logits, ids, ref_logprobs, direction="reverse", temperature=1.0, tail=True):
    """``[N, V]``, ``[N, k]``, ``[N, k]``; one number a row."""
    out = []
    for row, picked, ref in zip(
        np.asarray(logits).tolist(), np.asarray(ids).tolist(), np.asarray(ref_logprobs).tolist(), strict=True
    ):
        all_p = log_softmax(row, temperature)
        log_p, log_q = [all_p[j] for j in picked], list(ref)
        if tail:
            log_p.append(log_of(math.fsum(math.exp(x) for j, x in enumerate(all_p) if j not in picked)))
            log_q.append(log_of(1 - math.fsum(math.exp(x) for x in ref)))
        out.append(divergence(log_p, log_q) if direction == "reverse" else divergence(log_q, log_p))
    return np.array(out)
