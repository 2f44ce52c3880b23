"""Statistics of each group with NumPy's own functions."""

from types import SimpleNamespace

import numpy as np


def stats(rewards, ids, *, valid=None, ddof=1):
    x = np.asarray(rewards, dtype=np.float64)
    keep = np.ones(len(x), bool) if valid is None else np.asarray(valid, bool)
    columns = {"n": [], "mean": [], "std": [], "min": [], "max": []}
    for group in dict.fromkeys(ids):
        v = x[[i for i in range(len(x)) if ids[i] == group and keep[i]]]
        columns["n"].append(len(v))
        columns["mean"].append(np.mean(v) if len(v) else np.nan)
        columns["std"].append(np.std(v, ddof=ddof) if len(v) > ddof else np.nan)
        columns["min"].append(np.min(v) if len(v) else np.nan)
        columns["max"].append(np.max(v) if len(v) else np.nan)
    return SimpleNamespace(**{name: np.asarray(column) for name, column in columns.items()})
