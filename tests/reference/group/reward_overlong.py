"""The overlong penalty by the three cases of DAPO's equation 13."""

import numpy as np


def overlong_penalty(lengths, *, max_length, buffer, factor=1.0, capped=True, truncated=None):
    out = []
    for i, n in enumerate(lengths):
        if n <= max_length - buffer:
            penalty = 0.0
        elif n <= max_length or not capped:
            penalty = factor * ((max_length - buffer) - float(n)) / buffer
        else:
            penalty = -factor
        if truncated is not None and truncated[i]:
            penalty = min(penalty, -factor)
        out.append(penalty)
    return np.array(out, dtype=float)
