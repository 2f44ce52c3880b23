"""Whitening over a batch, written out."""

import numpy as np


def whiten(x, *, shift_mean=True, scale=True, ddof=1, eps=1e-8, eps_place="sqrt", weights=None, valid=None):
    x = np.asarray(x, dtype=np.float64)
    keep = np.ones(len(x), bool) if valid is None else np.asarray(valid, dtype=bool)
    w = (np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)) * keep
    out = np.zeros(len(x))
    seen = x[w > 0]
    if len(seen) == 0:
        return np.where(keep, np.nan, 0.0)
    mean = seen[0] if (seen == seen[0]).all() else (w * x).sum() / w.sum()
    divisor = 1.0
    if scale and w.sum() > ddof:
        std = np.sqrt((w * (x - mean) ** 2).sum() / (w.sum() - ddof))
        divisor = {
            "sqrt": np.sqrt(std**2 + eps),
            "add": std + eps,
            "max": max(std, eps),
            "where_positive": std + eps if std > 0 else 1.0,
        }[eps_place]
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.zeros(len(x)) if (seen == seen[0]).all() else (x - mean) / divisor
    return np.where(keep, out if shift_mean else out + mean, 0.0)
