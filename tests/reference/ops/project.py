"""Order-constrained projection, one group at a time, by active sets."""

import active_sets
import numpy as np


def order_project(x, edges, margins, ids, norm="free", radii=None):
    x, out, status = np.asarray(x, dtype=float), np.zeros(len(x)), []
    for k, g in enumerate(dict.fromkeys(ids)):
        rows = [i for i in range(len(x)) if ids[i] == g]
        place = {row: p for p, row in enumerate(rows)}
        inside = [e for e, (i, _) in enumerate(edges) if i in place]
        local = [(place[edges[e][0]], place[edges[e][1]]) for e in inside]
        radius = None if radii is None else radii[k]
        out[rows], name = active_sets.project(x[rows], local, [margins[e] for e in inside], norm, radius)
        status.append(name)
    return out, status
