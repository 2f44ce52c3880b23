"""Projection onto an order by trying every set of edges that may be tight: no iteration, no order of the graph used."""

import itertools
import math

import numpy as np

TINY = 1e-9


def faces(n, edges, margins):
    """For each set of edges made tight: the shortest point of that flat, and an orthonormal basis of its directions."""
    found = []
    for size in range(min(n - 1, len(edges)) + 1):
        for tight in itertools.combinations(range(len(edges)), size):
            rows = np.zeros((size, n))
            for k, e in enumerate(tight):
                rows[k, edges[e][0]], rows[k, edges[e][1]] = -1.0, 1.0
            want = np.array([margins[e] for e in tight])
            if size == 0:
                found.append((np.zeros(n), np.eye(n)))
                continue
            u, s, vt = np.linalg.svd(rows)
            if s[-1] < TINY:
                continue  # some of them follow from the others
            found.append((vt[:size].T @ ((u.T @ want) / s), vt[size:].T))
    return found


def project(x, edges, margins, norm="free", radius=None):
    """Nearest point and what became of it, for one group."""
    x, n = np.asarray(x, dtype=float), len(x)
    flats = faces(n, edges, margins)

    def fits(a):
        slack = TINY * (1 + np.abs(a).max())
        return all(a[j] - a[i] >= m - slack for (i, j), m in zip(edges, margins, strict=True))

    def nearest(y, candidates):
        inside = [a for a in candidates if fits(a)]
        return min(inside, key=lambda a: float((a - y) @ (a - y)))

    def free(y):
        return nearest(y, [w + b @ (b.T @ y) for w, b in flats])

    if norm == "free":
        return free(x), "SOLVED"
    radius = math.sqrt(n) if radius is None else radius
    shortest = free(np.zeros(n))
    if np.linalg.norm(shortest) > radius + TINY:
        return shortest, "INFEASIBLE"
    plain = free(x)
    if norm == "ball" and np.linalg.norm(plain) <= radius:
        return plain, "SOLVED"
    if norm == "sphere" and max(np.linalg.norm(free(t * x)) for t in (1.0, 1e3, 1e6)) < radius - TINY:
        return plain, "SATURATED"
    on_sphere = []
    for w, b in flats:
        along, left = b.T @ x, radius**2 - w @ w
        if left >= -TINY and np.linalg.norm(along) > TINY:
            # A flat that only touches the sphere: a root of rounding would be much more than rounding.
            step = b @ along * (math.sqrt(left if left > TINY else 0.0) / np.linalg.norm(along))
            on_sphere += [w + step, w - step]
    return nearest(x, on_sphere), "SOLVED"
