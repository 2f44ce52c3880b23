"""Numbers for a log: what came in, what was dropped, what carries a signal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import ops
from rollmath._arrays import Array, host
from rollmath.groups import Groups
from rollmath.ragged import Ragged
from rollmath.rows import Rows
from rollmath.select import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


def metrics_of(
    rewards: NDArray[np.float64],
    shaped: Array | None,
    groups: Groups,
    chosen: Selection,
    rows: Rows,
    values: Array | Ragged,
    level: str,
    *,
    sparse: bool,
) -> dict[str, float]:
    """Plain floats; means of nothing are 0, so that a dashboard goes on.

    Args:
        rewards: as they were given.
        shaped: after the penalties, None if there are none.
        groups: of the rollouts.
        chosen: which rollouts are trained.
        rows: what trains.
        values: advantages.
        level: what they have one value of.
        sparse: advantages of tokens are 0 where nothing is trained.
    """
    there = ~np.isnan(rewards)
    seen = None if there.all() else there
    counts = groups.counts if seen is None else ops.segment_count(groups, valid=seen)
    high, low = (np.asarray(of(rewards, groups, valid=seen)) for of in (ops.segment_max, ops.segment_min))
    report = chosen.report
    out = {
        "reward/mean": _mean(rewards[there]),
        "reward/std": float(rewards[there].std()) if there.any() else 0.0,
    }
    if shaped is not None:
        after = host("prepare", "rewards", shaped)[0].astype(np.float64)
        out["reward/shaped_mean"] = _mean(after[~np.isnan(after)])
    out |= {
        "groups/count": float(groups.n_groups),
        "groups/no_spread": float(((high == low) & (counts > 1)).sum()),
        "groups/of_one": float((counts == 1).sum()),
        "groups/dropped": float(report.dropped_groups),
        "rollouts/count": float(report.n_rollouts),
        "rollouts/dropped": float(report.dropped_rollouts),
    }
    out |= {f"rollouts/dropped/{one.reason.replace(' ', '_')}": float(one.rollouts) for one in report.dropped}
    out["tokens/trained"] = float(rows.trained.sum())
    array = host("prepare", "advantages", values.values if isinstance(values, Ragged) else values)[0]
    trained, n = _trained(array, rows, level, sparse)
    out["advantage/mean"] = float(trained.sum(dtype=np.float64)) / max(n, 1)
    out["advantage/rms"] = math.sqrt(float(np.dot(trained, trained)) / max(n, 1))
    out["advantage/nonzero"] = float(np.count_nonzero(trained)) / max(n, 1)
    return out


def _trained(array: NDArray[Any], rows: Rows, level: str, sparse: bool) -> tuple[NDArray[Any], int]:
    """The advantages of what is trained, and how many these are; zeros besides where they do not matter."""
    if level == "token":
        n = int(rows.trained.sum())
        return (array if sparse or rows.mask is None else array[rows.mask.view(bool)]), n
    live = rows.trained > 0
    if level == "rollout":
        live = np.bincount(rows.rollouts.index[live], minlength=rows.n_rollouts) > 0
    return array[live], int(live.sum())


def _mean(x: NDArray[Any]) -> float:
    return float(x.mean(dtype=np.float64)) if len(x) else 0.0
