"""What a loss is divided by: counts of the whole optimiser step, or TRL's way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath.adapters.trl._config import Window, aggregation_of
from rollmath.loss import Aggregation, Normalizer
from rollmath.rows import Rows

if TYPE_CHECKING:
    from rollmath.adapters.trl._settings import Settings


@dataclass(frozen=True)
class GenerationStep:
    """Counts of one generation batch.

    Attributes:
        windows: the Normalizer of each optimiser step of it; empty where the loss is divided as TRL does.
        items: trained tokens of the generation batch on all ranks, as TRL counts them.
    """

    windows: tuple[Normalizer, ...]
    items: float

    @classmethod
    def of(cls, trainer: Any, settings: Settings, parts: list[dict[str, Any]]) -> GenerationStep:
        """From the micro-batches of this rank; with several ranks, one collective where counts are of all."""
        items = float(parts[0]["num_items_in_batch"]) if "num_items_in_batch" in parts[0] else 0.0
        if settings.aggregation is None:
            return cls((), items)
        size = trainer.args.gradient_accumulation_steps
        local = [
            Normalizer.sum(_counts(settings, part, rows_of(part)) for part in parts[start : start + size])
            for start in range(0, len(parts), size)
        ]
        ranks = trainer.accelerator.num_processes
        if ranks > 1:
            from accelerate.utils import gather_object  # noqa: PLC0415 - comes with TRL

            every = gather_object([local])
            local = [Normalizer.sum(parts) for parts in zip(*every, strict=True)]
        # RLOO leaves the division by accumulation steps to transformers, which undoes what it cannot know of.
        told = 1 if trainer.loss_is_scaled_for_ga else size
        return cls(tuple(x.under(grad_reduce="mean", ranks=ranks, accumulation=told) for x in local), items)


def rows_of(inputs: dict[str, Any]) -> Rows:
    """The rows of a micro-batch: padded columns, each row as long as the widest. Made once and kept beside them."""
    rows: Rows | None = inputs.get("rollmath_rows")
    if rows is None:
        mask = inputs["rollmath_mask"].numpy()
        rows = Rows(inputs["rollmath_rollout"].numpy(), np.full(len(mask), mask.shape[1]), mask=mask.reshape(-1))
        inputs["rollmath_rows"] = rows
    return rows


def _counts(settings: Settings, inputs: dict[str, Any], rows: Rows) -> Normalizer:
    if settings.aggregation is not None and settings.aggregation.unit == "prompt":
        return Normalizer.local(rows, prompts=inputs["rollmath_group"].numpy())
    # One row a rollout, and none of them in two micro-batches: no ids are needed.
    live = int(np.count_nonzero(rows.trained))
    empty = rows.n_rows - live
    return Normalizer(tokens=int(rows.trained.sum()), rows=live, rollouts=live, empty_rows=empty, empty_rollouts=empty)


def division(
    trainer: Any, settings: Settings, step: GenerationStep | None, inputs: dict[str, Any], rows: Rows
) -> tuple[Normalizer, Aggregation]:
    """What the loss of a micro-batch is divided by. An evaluation knows its own batch alone."""
    training, args = bool(trainer.model.training), trainer.args
    if settings.aggregation is not None:
        if not training or step is None:
            return _counts(settings, inputs, rows), settings.aggregation
        at = trainer._step % args.steps_per_generation // args.gradient_accumulation_steps
        return step.windows[at], settings.aggregation
    here = _counts(settings, inputs, rows)
    steps = trainer.current_gradient_accumulation_steps if training else 1
    if not settings.grpo:
        # RLOO's mean over rows; transformers divides by the steps.
        return here, Aggregation(unit="row", empty="include")
    total = step.items if training and step is not None else float(inputs["num_items_in_batch"])
    share = steps / args.steps_per_generation if training else 1.0
    items = max(total, 1.0) / trainer.accelerator.num_processes * share
    return here, aggregation_of(args, Window(steps, items))
