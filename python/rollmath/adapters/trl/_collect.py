"""The generation batch of all ranks as a TRLBatch: with several ranks, one collective."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath.adapters.trl._batch import TRLBatch
from rollmath.groups import Groups
from rollmath.rows import Rows

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from rollmath.adapters.trl._settings import Settings


@dataclass
class Seen:
    """What passes through ``_calculate_rewards`` and ``_get_per_token_logps_and_entropies`` of one generation batch."""

    rewards: Any = None
    inputs: Any = ()
    prompts: Any = ()
    messages: Any = ()
    completions: Any = ()
    logps: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Gathered:
    """A batch of all ranks, and which of its rollouts are of this one.

    Attributes:
        batch: all rollouts.
        here: those of this rank.
        truncated: which rollouts do not end with an end-of-sequence token, bool ``[N]``; empty where no one asks.
        logps: log-probabilities under the old policy and the reference, packed over the positions of all rows.
        seed: of this step, for a filter that draws.
    """

    batch: TRLBatch
    here: slice
    truncated: NDArray[np.bool_]
    logps: tuple[NDArray[np.float32], ...] = ()
    seed: int = 0


def loss_mask(output: dict[str, Any]) -> torch.Tensor:
    """The trained tokens as TRL's loss sees them, ``[B, T]``."""
    mask: torch.Tensor = output["completion_mask"]
    return mask * output["tool_mask"] if "tool_mask" in output else mask


def collect(trainer: Any, settings: Settings, seen: Seen, output: dict[str, Any]) -> Gathered:
    """Everything of all ranks, in TRL's order: rank after rank.

    Raises:
        ValueError: a column that the dataset and the rollouts do not have, or with an entry a rollout missing.
    """
    ids, mask = output["completion_ids"].cpu().numpy(), loss_mask(output).cpu().numpy()
    lengths = np.array([len(x) for x in seen.completions], np.int64)
    inside = np.arange(mask.shape[1]) < lengths[:, None]
    named = dict(settings.columns) | ({} if settings.group_by is None else {"": settings.group_by})
    wanted = {name: name for name in settings.optional} | named
    columns = {key: _found(trainer, seen, name, of_environments=key in named) for key, name in wanted.items()}
    if wanted.get("states") == "states" and getattr(trainer, "tools", None):
        # What environments note down themselves may be more than the model saw: TRL drops answers that are too long.
        given = zip(columns["states"], seen.prompts, seen.messages, strict=True)
        columns["states"] = [observations(x, y) if found is None else found for found, x, y in given]
    piece = {
        "columns": columns,
        "names": {name for example in seen.inputs for name in example},
        "lengths": lengths,
        "tokens": ids[inside],
        "mask": mask[inside] != 0,
        "truncated": _truncated(trainer, settings, ids, lengths),
        "logps": [x.detach().float().cpu().numpy()[inside] for x in seen.logps],
    }
    pieces = [piece]
    if trainer.accelerator.num_processes > 1:
        from accelerate.utils import gather_object  # noqa: PLC0415 - comes with TRL

        pieces = gather_object([piece])
    # What is there is decided over all ranks: if one raised before the collective, the others would wait for it.
    columns = {key: [value for x in pieces for value in x["columns"][key]] for key in wanted}
    columns = {key: x for key, x in columns.items() if key in named or any(value is not None for value in x)}
    _check(settings.who, columns, wanted, set().union(*(x["names"] for x in pieces)))
    table = seen.rewards.detach().float().cpu().numpy()
    offsets = np.cumsum([0, *(len(x["lengths"]) for x in pieces)])
    rank = trainer.accelerator.process_index
    each = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
    groups = Groups(columns.pop("") if settings.group_by is not None else np.arange(len(table)) // each)
    sizes, mask, tokens = (np.concatenate([x[name] for x in pieces]) for name in ("lengths", "mask", "tokens"))
    rows = Rows(np.arange(len(sizes)), sizes, mask=mask, tokens=tokens)
    weights = trainer.reward_weights.float().cpu().numpy()
    logps = tuple(np.concatenate([x["logps"][i] for x in pieces]) for i in range(len(seen.logps)))
    missing = np.isnan(table).all(axis=1)
    batch = TRLBatch(
        rewards=_total(trainer, settings, table, weights, missing, rows, logps),
        reward_table=table,
        reward_names=tuple(trainer.reward_func_names),
        reward_weights=weights,
        groups=groups,
        rows=rows,
        valid=~missing,
        columns=columns,
        num_generations=each,
        training=bool(trainer.model.training),
    )
    truncated = np.concatenate([x["truncated"] for x in pieces])
    # The same on all ranks, and another one in every step.
    seed = (int(trainer.args.seed) << 32) + int(trainer.state.global_step)
    return Gathered(batch, slice(int(offsets[rank]), int(offsets[rank + 1])), truncated, logps, seed)


def _truncated(
    trainer: Any, settings: Settings, ids: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which completions end with another token than TRL's ends of a sequence; empty where no one asks."""
    if settings.recipe is None or "truncated" not in settings.recipe.needs:
        return np.zeros(0, np.bool_)
    ends = [*trainer.eos_token_ids, trainer._tokenizer.pad_token_id]
    last = ids[np.arange(len(ids)), np.maximum(lengths, 1) - 1]
    return np.asarray((lengths > 0) & ~np.isin(last, ends))


def _total(
    trainer: Any,
    settings: Settings,
    table: NDArray[np.float32],
    weights: NDArray[np.float32],
    missing: NDArray[np.bool_],
    rows: Rows,
    logps: tuple[NDArray[np.float32], ...],
) -> NDArray[np.float32]:
    """One reward a rollout as TRL adds them up; in RLOO clipped, and less beta times the KL if no recipe does that."""
    total = np.asarray(np.nansum(table * weights, axis=1, dtype=np.float32), np.float32)
    total[missing] = np.nan
    if settings.grpo:
        return total
    if trainer.args.reward_clip_range:
        low, high = trainer.args.reward_clip_range
        total = np.clip(total, np.float32(low), np.float32(high))
    if trainer.beta != 0 and settings.recipe is None and rows.mask is not None:
        log_ratio = np.where(rows.mask != 0, logps[0].astype(np.float64) - logps[1], 0.0)
        filled = rows.lengths > 0
        kl = np.zeros(len(total))
        kl[filled] = np.add.reduceat(log_ratio, rows.offsets[:-1][filled])
        total = (total - trainer.beta * kl).astype(np.float32)
    return total


def _found(trainer: Any, seen: Seen, name: str, *, of_environments: bool) -> list[Any]:
    """Of each rollout of this rank: the field of its example, or else the attribute of its environment, or None."""
    found = [example.get(name) for example in seen.inputs]
    # One a rollout, of TRL's environment_factory; an attribute may have a common name, and so must be asked for.
    environments = (getattr(trainer, "environments", None) or []) if of_environments else []
    for i, environment in enumerate(environments):
        value = getattr(environment, name, None)
        if found[i] is None and not callable(value):
            found[i] = value
    return found


def observations(prompt: Any, messages: Any) -> list[list[Any]]:
    """What the model saw before each message of its own: the prompt, then what the tools answered since."""
    out, since = [], list(prompt)
    for message in messages:
        if message["role"] == "assistant":
            out.append(since)
            since = []
        else:
            since.append(message)
    return out


def _check(who: str, columns: dict[str, list[Any]], wanted: dict[str, str], names: set[str]) -> None:
    """Raises where a rollout has no value."""
    for key, values in columns.items():
        lacking = next((i for i, value in enumerate(values) if value is None), None)
        if lacking is not None:
            msg = (
                f"{who}(): column {wanted[key]!r} must have a value for every rollout, but rollout {lacking} has "
                f"none; there are {', '.join(sorted(names)) or 'none'}. Put it in the dataset, with "
                "remove_unused_columns=False, or have rollout_func return it, one value a completion"
            )
            raise ValueError(msg)
