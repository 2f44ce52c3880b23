"""Values of prefixes from their probes."""

import math


def probe_values(rewards, truncated, penalty=0.0, empty=0.0):
    out = []
    for row, cut in zip(rewards, truncated, strict=True):
        given = [penalty if c else r for r, c in zip(row, cut, strict=True)]
        out.append(math.fsum(given) / len(given) if given else empty)
    return out
