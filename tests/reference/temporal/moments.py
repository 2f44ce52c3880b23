"""Mean and variance of the trained tokens of rows, written out."""

import math


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
