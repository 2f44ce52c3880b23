"""What methods on forests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, Kind, floats

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
