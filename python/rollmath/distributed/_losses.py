"""Counts and metrics of a loss over all ranks."""

from __future__ import annotations

from typing import Any

import torch

from rollmath._arrays import ArrayLike
from rollmath.distributed._exchange import Words, by_rank, exchange, ranks
from rollmath.groups import Groups
from rollmath.loss import LossMetrics, Normalizer
from rollmath.loss._check import require
from rollmath.rows import Rows


def normalizer(rows: Rows, *, prompts: Groups | ArrayLike | None = None, group: Any = None) -> Normalizer:
    """The counts of the rows of all ranks: ``sum_k Normalizer.local(rows_k, prompts=prompts_k)`` over ranks ``k``.

    As :meth:`rollmath.loss.Normalizer.gather`, in one collective as in :func:`gather`, and what is wrong on one rank is
    raised on all.

    Args:
        rows: all rows of this rank in the optimiser step; may be none.
        prompts: one prompt id a rollout, in the order of ``rows.rollouts.ids``; on all ranks or on none.
        group: the process group of the data-parallel ranks, as in :func:`gather`.

    Raises:
        ValueError: a rollout id on two ranks; prompts on some ranks only, or of another length.
        TypeError: ``rows`` is no Rows.

    >>> normalizer(Rows(["a", "b"], [3, 2], mask=[1, 0, 1, 1, 1]))
    Normalizer(tokens=4, rows=2, rollouts=2)
    """
    who = "normalizer"

    def make() -> Normalizer:
        require(who, "rows", rows, Rows, "Rows")
        return Normalizer.local(rows, prompts=prompts)

    told = {"prompts": Words("nothing" if prompts is None else "one id a rollout")}
    parts = exchange(who, make, group, told).parts
    owner: dict[Any, int] = {}
    for number, part in enumerate(parts):
        for key in part.rollout_tokens or ():
            if (before := owner.setdefault(key, number)) != number:
                msg = (
                    f"{who}(): 'rows' must have rollout ids that are distinct over all ranks, but {key!r} is on "
                    f"{ranks([before, number])}"
                )
                raise ValueError(msg)
    return Normalizer.sum(parts)


def gather_metrics(metrics: LossMetrics, *, group: Any = None) -> LossMetrics:
    """The metrics of all ranks together: sums are added over ranks, in their order, and maxima compared.

    One collective as in :func:`gather`. Reading the metrics waits for the device, once.

    Args:
        metrics: those of this rank, of all its micro-batches (``LossMetrics.merge(parts)``); ``LossMetrics.merge([])``
            on a rank that had none.
        group: the process group, as in :func:`gather`.

    Returns:
        The same numbers on every rank, on the device of ``metrics``.

    Raises:
        ValueError: ranks with other metrics.
        TypeError: no LossMetrics.

    >>> gather_metrics(LossMetrics({"loss": torch.tensor(0.5)})).to_dict()
    {'loss': 0.5}
    """
    who = "gather_metrics"

    def make() -> dict[str, float]:
        require(who, "metrics", metrics, LossMetrics, "LossMetrics")
        return metrics.to_dict()

    parts = {number: part for number, part in enumerate(exchange(who, make, group).parts) if part}
    if len({tuple(part) for part in parts.values()}) > 1:
        seen = {number: ", ".join(part) for number, part in parts.items()}
        msg = f"{who}(): 'metrics' must be the same on all ranks, got {by_rank(seen)}"
        raise ValueError(msg)
    device = metrics.values_tensor.device
    each = [
        LossMetrics({name: torch.tensor(x, dtype=torch.float64, device=device) for name, x in part.items()})
        for part in parts.values()
    ]
    return LossMetrics.merge(each)
