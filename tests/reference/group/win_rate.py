"""Win rates from a dense table: the mean of the row, without the diagonal and what was never compared."""

import math

import numpy as np


def win_rate(first, second, probability, ids, *, symmetric=True, missing="nan", valid=None):
    n = len(ids)
    table = [[[] for _ in range(n)] for _ in range(n)]
    for i, j, p in zip(first, second, probability, strict=True):
        if i != j and (valid is None or (valid[i] and valid[j])):
            table[i][j].append(float(p))
            if symmetric:
                table[j][i].append(1 - float(p))
    out = np.zeros(n)
    for i in range(n):
        if valid is not None and not valid[i]:
            continue
        against = [math.fsum(cell) / len(cell) for cell in table[i] if cell]
        empty = {"nan": math.nan, "half": 0.5}[missing]
        out[i] = math.fsum(against) / len(against) if against else empty
    return out
