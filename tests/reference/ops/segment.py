"""Segment reductions as one NumPy or math call a group."""

import math

import numpy as np


def _groups(x, ids, valid):
    x = np.asarray(x, dtype=np.float64)
    keep = np.ones(len(x), bool) if valid is None else np.asarray(valid, bool)
    for group in dict.fromkeys(ids):
        yield x[[i for i in range(len(x)) if ids[i] == group and keep[i]]]


def _each(x, ids, valid, f, empty=math.nan):
    return np.array([f(v) if len(v) else empty for v in _groups(x, ids, valid)], dtype=np.float64)


def segment_count(ids, *, valid=None):
    return np.array([len(v) for v in _groups(np.zeros(len(ids)), ids, valid)], dtype=np.int64)


def segment_sum(x, ids, *, valid=None):
    return _each(x, ids, valid, np.sum, empty=0.0)


def segment_mean(x, ids, *, valid=None):
    return _each(x, ids, valid, np.mean)


def segment_var(x, ids, *, ddof=1, valid=None):
    return _each(x, ids, valid, lambda v: np.var(v, ddof=ddof) if len(v) > ddof else math.nan)


def segment_std(x, ids, *, ddof=1, valid=None):
    return np.sqrt(segment_var(x, ids, ddof=ddof, valid=valid))


def segment_min(x, ids, *, valid=None):
    return _each(x, ids, valid, np.min)


def segment_max(x, ids, *, valid=None):
    return _each(x, ids, valid, np.max)


def segment_quantile(x, ids, q, *, method="linear", valid=None):
    return _each(x, ids, valid, lambda v: np.quantile(v, q, method=method))


def segment_logmeanexp(x, ids, beta, *, valid=None):
    def soft(v):
        top = np.max(beta * v)
        return (top + math.log(np.mean(np.exp(beta * v - top)))) / beta

    return _each(x, ids, valid, soft)


def segment_weighted_mean(x, ids, weights, *, valid=None):
    keep = np.ones(len(ids), bool) if valid is None else np.asarray(valid, bool)
    out = []
    for group in dict.fromkeys(ids):
        rows = [i for i in range(len(ids)) if ids[i] == group and keep[i] and weights[i] > 0]
        total = math.fsum(weights[i] for i in rows)
        out.append(math.fsum(weights[i] * x[i] for i in rows) / total if total > 0 else math.nan)
    return np.array(out, dtype=np.float64)


def loo_mean(x, ids, *, valid=None, singleton="nan"):
    keep = np.ones(len(ids), bool) if valid is None else np.asarray(valid, bool)
    out = np.empty(len(ids))
    for i in range(len(ids)):
        others = [float(x[j]) for j in range(len(ids)) if j != i and keep[j] and ids[j] == ids[i]]
        nobody = math.nan if singleton == "nan" else 0.0
        out[i] = math.fsum(others) / len(others) if others else nobody
    return out


def gather(per_group, ids):
    number = {group: k for k, group in enumerate(dict.fromkeys(ids))}
    return np.array([per_group[number[i]] for i in ids], dtype=np.asarray(per_group).dtype)
