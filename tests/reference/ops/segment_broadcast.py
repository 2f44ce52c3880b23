"""One statistic of the members for each row."""

import math
import statistics


def segment_broadcast(x, ids, *, how="mean", weights=None, valid=None):
    out = []
    for g in ids:
        rows = [i for i in range(len(x)) if ids[i] == g and (valid is None or valid[i])]
        w = [1.0 if weights is None else float(weights[i]) for i in rows]
        v = [float(x[i]) for i in rows]
        total = math.fsum(a * b for a, b in zip(w, v, strict=True) if a > 0)
        if how == "sum":
            out.append(total)
        elif not rows or math.fsum(w) == 0:
            out.append(math.nan)
        elif how == "mean":
            out.append(total / math.fsum(w))
        else:
            out.append({"max": max, "min": min, "median": statistics.median}[how](v))
    return out
