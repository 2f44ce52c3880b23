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

_CHUNK = 1 << 16


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
    """Plain floats; means of nothing are 0, so that a dashboard goes on. Rewards that are not finite are left out.

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
    there = np.isfinite(rewards)
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
        out["reward/shaped_mean"] = _mean(after[np.isfinite(after)])
    out |= {
        "groups/count": float(groups.n_groups),
        "groups/no_spread": float(((high == low) & (counts > 1)).sum()),
        "groups/of_one": float((counts == 1).sum()),
        "groups/dropped": float(report.dropped_groups),
        "rollouts/count": float(report.n_rollouts),
        "rollouts/dropped": float(report.dropped_rollouts),
    }
    lost = np.bincount(report.codes, minlength=1 + len(report.reasons)).tolist()[1:]
    reasons = zip(report.reasons, lost, strict=True)
    out |= {f"rollouts/dropped/{reason.replace(' ', '_')}": float(n) for reason, n in reasons if n}
    out["tokens/trained"] = float(rows.trained.sum())
    trained, n = _trained(_array(values), rows, level, sparse)
    out["advantage/mean"] = float(trained.sum(dtype=np.float64)) / max(n, 1)
    out["advantage/rms"] = math.sqrt(_squares(trained) / max(n, 1))
    out["advantage/nonzero"] = float(np.count_nonzero(trained)) / max(n, 1)
    return out


def trained_values(values: Array | Ragged, rows: Rows, level: str) -> tuple[NDArray[np.float64], int]:
    """The advantages of what is trained, and how many these are."""
    trained, n = _trained(_array(values), rows, level, sparse=False)
    return trained.astype(np.float64), n


def _array(values: Array | Ragged) -> NDArray[Any]:
    return host("prepare", "advantages", values.values if isinstance(values, Ragged) else values)[0]


def _trained(array: NDArray[Any], rows: Rows, level: str, sparse: bool) -> tuple[NDArray[Any], int]:
    """The advantages of what is trained, and how many these are; zeros besides where they do not matter."""
    if level == "token":
        n = int(rows.trained.sum())
        return (array if sparse or rows.mask is None else array[rows.mask.view(bool)]), n
    live = rows.trained > 0
    if level == "rollout":
        live = np.bincount(rows.rollouts.index[live], minlength=rows.n_rollouts) > 0
    return array[live], int(live.sum())


def _squares(x: NDArray[Any]) -> float:
    """Sum of squares in float64, without a copy of all."""
    # No dot product: BLAS shares one out to threads, which decide its bits and wait for each other.
    parts = (x[i : i + _CHUNK] for i in range(0, len(x), _CHUNK))
    return math.fsum(float(np.square(part, dtype=np.float64).sum()) for part in parts)


def _mean(x: NDArray[Any]) -> float:
    return float(x.mean(dtype=np.float64)) if len(x) else 0.0
