"""Mean and variance over a batch, written out."""

import numpy as np


def moments(x, *, weights=None, valid=None):
    """(count, mean, var with ddof 1) of the values repeated `weights` times."""
    x = np.asarray(x, dtype=np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if valid is not None:
        w = np.where(np.asarray(valid, dtype=bool), w, 0.0)
    count = w.sum()
    mean = (w * x).sum() / count if count else np.nan
    var = (w * (x - mean) ** 2).sum() / (count - 1) if count > 1 else np.nan
    return count, mean, var
