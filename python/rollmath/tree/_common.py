"""What methods on forests share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, Kind, floats
from rollmath._checks import whole_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.forest import Forest


def leaf_rewards(
    who: str, forest: Forest, rewards: ArrayLike, *, propagate: bool | None = False
) -> tuple[NDArray[Any], Kind]:
    """One float a rollout, finite unless they may ``propagate``; None: there is no such choice to point at."""
    x, kind = floats(who, "rewards", rewards, length=forest.n_leaves, why="forest.n_leaves")
    if not propagate and not (finite := np.isfinite(x)).all():
        bad = int(np.argmin(finite))
        fix = "take such rollouts out with forest.prune(keep)"
        fix += "" if propagate is None else ", or choose nan='propagate'"
        msg = f"{who}(): 'rewards' must be finite, got {x[bad]} at index {bad}; {fix}"
        raise ValueError(msg)
    return x, kind


def visit_counts(who: str, forest: Forest, visits: ArrayLike) -> NDArray[np.float64]:
    """How often a search came to each node."""
    return whole_rows(who, "visits", visits, forest.n_nodes, 0, "forest.n_nodes")


def finite_at(
    who: str,
    name: str,
    x: NDArray[np.float64],
    what: str = "node",
    used: NDArray[np.bool_] | None = None,
    *,
    least: float = -math.inf,
) -> None:
    """Raises unless ``x``, one number a ``what``, is finite and at least ``least`` where it is used."""
    wrong = ~(np.isfinite(x) & (x >= least))
    if len(bad := np.flatnonzero(wrong if used is None else wrong & used)):
        must = "finite" if least == -math.inf else "finite and not negative"
        msg = f"{who}(): {name!r} must be {must}, got {x[bad[0]]:g} at {what} {bad[0]}"
        raise ValueError(msg)
