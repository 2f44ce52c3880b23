"""Moments of the trained tokens of rows, and whitening over them, written out."""

import math


def whiten(
    rows,
    mask=None,
    *,
    shift_mean=True,
    scale=True,
    ddof=1,
    eps=1e-8,
    eps_place="sqrt",
    weights=None,
    valid=None,
):
    """Lists of rows; ``weights`` is how often a row counts, ``valid`` which rows take part."""
    mask = [[True] * len(row) for row in rows] if mask is None else mask
    weights = [1.0] * len(rows) if weights is None else weights
    valid = [True] * len(rows) if valid is None else valid
    keep = [[kept and ok for kept in row] for row, ok in zip(mask, valid, strict=True)]
    seen = [
        (x, w)
        for row, m, w in zip(rows, keep, weights, strict=True)
        for x, kept in zip(row, m, strict=True)
        if kept and w > 0
    ]
    if not seen:
        return [[x if kept else 0.0 for x, kept in zip(row, m, strict=True)] for row, m in zip(rows, keep, strict=True)]
    total = math.fsum(w for _, w in seen)
    equal = min(seen)[0] == max(seen)[0]
    mean = seen[0][0] if equal else math.fsum(w * x for x, w in seen) / total
    divisor = 1.0
    if scale and total > ddof and not equal:
        std = math.sqrt(math.fsum(w * (x - mean) ** 2 for x, w in seen) / (total - ddof))
        divisor = {
            "sqrt": math.sqrt(std**2 + eps),
            "add": std + eps,
            "max": max(std, eps),
            "where_positive": std + eps if std > 0 else 1.0,
        }[eps_place]
    add = 0.0 if shift_mean else mean
    return [
        [(x - mean) / divisor + add if kept else 0.0 for x, kept in zip(row, m, strict=True)]
        for row, m in zip(rows, keep, strict=True)
    ]


def moments(rows, mask=None, *, weights=None, valid=None, ddof=1):
    """(count, mean, var); ``weights`` is how often a row counts, ``valid`` which rows take part."""
    mask = [[True] * len(row) for row in rows] if mask is None else mask
    weights = [1.0] * len(rows) if weights is None else weights
    valid = [True] * len(rows) if valid is None else valid
    seen = [
        (x, w)
        for row, m, w, ok in zip(rows, mask, weights, valid, strict=True)
        for x, kept in zip(row, m, strict=True)
        if kept and ok
    ]
    count = math.fsum(w for _, w in seen)
    mean = math.fsum(w * x for x, w in seen) / count if count else math.nan
    var = math.fsum(w * (x - mean) ** 2 for x, w in seen) / (count - ddof) if count > ddof else math.nan
    return count, mean, var
