"""The same projections by SciPy: a general optimiser, as Tree-OPO describes, and its isotonic regression."""

from collections.abc import Callable

import numpy as np
import pytest

from bench.inputs import PrefixGroups


def slsqp(data: PrefixGroups, *, hard: bool) -> Callable[[], np.ndarray]:
    """Group by group, from the centred rewards, with the derivatives of objective and constraints."""
    optimize = pytest.importorskip("scipy.optimize")
    groups = np.argsort(data.ids, kind="stable").reshape(-1, 8)
    place = np.empty(groups.size, dtype=int)
    place[groups] = np.arange(8)
    owner, rows = data.ids[data.edges[:, 0]], []
    for members in groups:
        lesser, greater = place[data.edges[owner == data.ids[members[0]]]].T
        matrix = np.zeros((len(lesser), 8))
        matrix[np.arange(len(lesser)), lesser] = -1.0
        matrix[np.arange(len(lesser)), greater] = 1.0
        rows.append((members, matrix))

    def one(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        constraints = [
            {"type": "eq", "fun": np.sum, "jac": np.ones_like},
            {"type": "ineq", "fun": lambda a: matrix @ a - data.margin, "jac": lambda _: matrix},
            {"type": "eq" if hard else "ineq", "fun": lambda a: 8.0 - a @ a, "jac": lambda a: -2.0 * a},
        ]
        options = {"ftol": 1e-12, "maxiter": 300}
        start = x * np.sqrt(8.0 / (x @ x)) if hard else x
        return optimize.minimize(
            lambda a: 0.5 * (a - x) @ (a - x), start, jac=lambda a: a - x, method="SLSQP", constraints=constraints,
            options=options,
        ).x  # fmt: skip

    def call() -> np.ndarray:
        out = np.empty(groups.size)
        for members, matrix in rows:
            r = data.rewards[members]
            out[members] = one(r - r.mean(), matrix)
        return out

    return call


def isotonic(x: np.ndarray) -> np.ndarray:
    optimize = pytest.importorskip("scipy.optimize")
    return optimize.isotonic_regression(x).x
