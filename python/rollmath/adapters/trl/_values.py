"""Advantages and selection of a generation batch, put where TRL's trainers look for them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import describe, host
from rollmath._logprobs import LogProbs
from rollmath.adapters._seeds import seeded_by
from rollmath.adapters.trl._config import advantages_of
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from rollmath.adapters.trl._batch import TRLBatch
    from rollmath.adapters.trl._collect import Gathered
    from rollmath.adapters.trl._settings import Settings


@dataclass(frozen=True)
class Values:
    """What came out for all rollouts.

    Attributes:
        advantages: ``[N]``, or packed over the positions of ``rows``; None leaves TRL's.
        rows: the rows, whose mask is 0 in rollouts that were dropped.
        kept: the rollouts that were not dropped, bool ``[N]``; None if there was no selection.
        metrics: numbers for the log.
    """

    advantages: NDArray[np.float32] | None
    rows: Rows
    kept: NDArray[np.bool_] | None
    metrics: Mapping[str, float]

    @property
    def per_token(self) -> bool:
        """Whether advantages are packed over positions."""
        return self.advantages is not None and len(self.advantages) != self.rows.n_rows

    def one_each(self) -> NDArray[np.float32]:
        """One number a rollout, for the log: of advantages a token, the mean over its trained tokens."""
        if self.advantages is None:
            return np.zeros(0, np.float32)
        if not self.per_token:
            return self.advantages
        trained = np.where(_mask(self.rows), self.advantages, 0.0).astype(np.float64)
        out = np.zeros(self.rows.n_rows)
        filled = self.rows.lengths > 0
        out[filled] = np.add.reduceat(trained, self.rows.offsets[:-1][filled])
        return (out / np.maximum(self.rows.trained, 1)).astype(np.float32)


def evaluate(args: Any, settings: Settings, gathered: Gathered) -> Values:
    """Filter, then advantages. In an evaluation nothing is dropped.

    Raises:
        ValueError: advantages of another length than the rollouts or their positions, or not finite where trained.
        TypeError: a filter that returns no mask.
    """
    batch = gathered.batch
    if settings.recipe is not None:
        return _by_recipe(settings, gathered)
    kept = None if settings.filter is None else _kept(settings, batch)
    if kept is not None:
        batch = replace(batch, valid=batch.valid & kept, rows=batch.rows.keep(kept))
    if not settings.values:
        return Values(None, batch.rows, kept, _counts(kept))
    found = (
        advantages_of(args, batch, grpo=settings.grpo) if settings.from_config else settings.advantage(batch)  # type: ignore[misc]
    )
    flat = _flat(settings.who, found, batch)
    return Values(_zeroed(settings.who, flat, batch, kept), batch.rows, kept, _counts(kept))


def _by_recipe(settings: Settings, gathered: Gathered) -> Values:
    """What the recipe makes of the rollouts that have a reward; the others get 0 and stay as TRL has them."""
    batch, recipe = gathered.batch, settings.recipe
    assert recipe is not None
    drops = recipe.filter is not None or recipe.truncated != "keep"
    if not batch.training and drops:
        recipe = recipe.replace(filter=None, truncated="keep")
    at = np.flatnonzero(batch.valid)
    rows = batch.rows if len(at) == len(batch.rewards) else batch.rows.take(at)
    columns: dict[str, Any] = {key: [values[i] for i in at.tolist()] for key, values in batch.columns.items()}
    if "truncated" in recipe.needs:
        columns["truncated"] = gathered.truncated[at]
    if recipe.reward_kl:
        columns["logprobs"] = _logprobs(gathered)
    if "seed" in recipe.needs:
        columns["seed"] = gathered.seed
    else:
        recipe = seeded_by(settings.who, recipe, [gathered.seed])
    prepared = recipe.prepare(batch.rewards[at], batch.groups.take(at), rows=rows, **columns)
    if isinstance(prepared.advantages, Ragged):
        flat = np.zeros(int(batch.rows.offsets[-1]), np.float32)
        flat[np.repeat(batch.valid, batch.rows.lengths)] = prepared.advantages.values
    else:
        flat = np.zeros(len(batch.rewards), np.float32)
        flat[at] = np.asarray(prepared.advantages)
    kept = np.ones(len(batch.rewards), np.bool_)
    kept[at] = np.asarray(prepared.selection.mask)
    trains = batch.rows.keep(kept)
    if (recipe.shared == "once" or recipe.zeros == "drop") and prepared.rows.mask is not None:
        mask = _mask(trains).copy()
        mask[np.repeat(batch.valid, batch.rows.lengths)] = prepared.rows.mask != 0
        trains = trains.keep(Ragged(mask, trains.offsets))
    # Copies of rollouts are dropped in an evaluation, too: none counts twice.
    return Values(flat, trains, kept if drops or settings.trees else None, prepared.metrics)


def _logprobs(gathered: Gathered) -> LogProbs:
    """Of the rollouts that have a reward, packed."""
    import torch  # noqa: PLC0415 - the trainer has it

    seen = np.repeat(gathered.batch.valid, gathered.batch.rows.lengths)
    old, ref = (torch.from_numpy(x[seen]) for x in gathered.logps)
    return LogProbs(old, ref=ref)


def _kept(settings: Settings, batch: TRLBatch) -> NDArray[np.bool_]:
    if not batch.training:
        return np.ones(len(batch.rewards), np.bool_)
    chosen = settings.filter
    known: dict[str, Any] = {}
    if not batch.valid.all() and "valid" in inspect.signature(chosen).parameters:  # type: ignore[arg-type]
        known["valid"] = batch.valid
    rewards = np.where(batch.valid, batch.rewards, np.float32(0)) if known else batch.rewards
    found = chosen(rewards, batch.groups, **known)  # type: ignore[misc]
    mask = np.asarray(getattr(found, "mask", found))
    if mask.dtype != np.bool_ or mask.shape != (len(rewards),):
        msg = (
            f"{settings.who}(): 'filter' must return a Selection or a bool array of shape ({len(rewards)},), got "
            f"{describe(found)}"
        )
        raise TypeError(msg)
    return mask | ~batch.valid  # what has no reward is TRL's to handle: advantage 0, mask as it is


def _counts(kept: NDArray[np.bool_] | None) -> dict[str, float]:
    return {} if kept is None else {"rollouts/dropped": float((~kept).sum())}


def _mask(rows: Rows) -> NDArray[np.bool_]:
    return np.ones(int(rows.offsets[-1]), np.bool_) if rows.mask is None else rows.mask != 0


def _flat(who: str, found: Any, batch: TRLBatch) -> NDArray[np.float32]:
    """Advantages as ``[N]`` or packed, whatever form they came in."""
    rows, n = batch.rows, len(batch.rewards)
    if isinstance(found, Ragged):
        if not np.array_equal(found.offsets, rows.offsets):
            msg = f"{who}(): 'advantage' must return a Ragged with the offsets of batch.rows, got other lengths"
            raise ValueError(msg)
        found = found.values
    array = host(who, "advantage", found.detach() if hasattr(found, "detach") else found)[0]
    if array.dtype.kind not in "fiub":
        msg = f"{who}(): 'advantage' must return numbers, got {describe(found)}"
        raise TypeError(msg)
    longest = int(rows.lengths.max(initial=0))
    if array.ndim == 2 and len(array) == n and array.shape[1] >= longest:
        array = array[np.arange(array.shape[1]) < rows.lengths[:, None]]
    elif array.shape not in {(n,), (int(rows.offsets[-1]),)}:
        msg = (
            f"{who}(): 'advantage' must return shape ({n},) (= rollouts), ({rows.offsets[-1]},) (= positions), or "
            f"({n}, at least {longest}), got {array.shape}"
        )
        raise ValueError(msg)
    return array.astype(np.float32)


def _zeroed(
    who: str, flat: NDArray[np.float32], batch: TRLBatch, kept: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """0 where nothing is trained for lack of a reward, and in what was dropped."""
    out = batch.valid if kept is None else batch.valid & kept
    per_token = len(flat) != len(out)
    counts = np.repeat(out, batch.rows.lengths) & _mask(batch.rows) if per_token else out
    flat = np.where(counts, flat, np.float32(0))
    if not np.isfinite(flat).all():
        at = int(np.argmin(np.isfinite(flat)))
        what = "position" if per_token else "rollout"
        msg = f"{who}(): 'advantage' must return finite numbers, got {flat[at]} at {what} {at} of the batch"
        raise ValueError(msg)
    return flat


def place(trainer: Any, settings: Settings, gathered: Gathered, values: Values, output: dict[str, Any]) -> None:
    """Writes the part of this rank into what TRL trains on, and into its log.

    Raises:
        ValueError: advantages a token for RLOO's own loss, which has one ratio a sequence.
    """
    import torch  # noqa: PLC0415 - the trainer has it

    here, rows = gathered.here, values.rows
    sizes = rows.lengths[here]
    shape = tuple(output["completion_ids"].shape)
    inside = np.arange(shape[1]) < sizes[:, None]
    positions = slice(int(rows.offsets[here.start]), int(rows.offsets[here.stop]))
    device = output["completion_ids"].device

    def padded(packed: NDArray[Any]) -> torch.Tensor:
        table = np.zeros(shape, packed.dtype)
        table[inside] = packed[positions]
        return torch.from_numpy(table)

    mode = "train" if gathered.batch.training else "eval"
    metrics, logs = trainer._metrics[mode], trainer._logs
    # TRL logged its own advantages just now; the log may be shorter than a batch of an evaluation.
    n, logged = rows.n_rows, logs["advantages"]
    theirs = [logged.pop() for _ in range(min(n, len(logged)))][::-1]
    if values.advantages is not None:
        if values.per_token and not settings.grpo and settings.objective is None:
            msg = (
                f"{settings.who}(): 'advantage' must return one number a rollout for RLOO's own loss, which has one "
                "ratio a sequence; give 'objective', such as Reinforce()"
            )
            raise ValueError(msg)
        mine = padded(values.advantages) if values.per_token else torch.from_numpy(values.advantages[here].copy())
        output["advantages"] = mine.to(device)
        logged.extend(values.one_each().tolist())
    elif values.kept is not None:
        kept = torch.from_numpy(values.kept[here].copy()).to(device)
        output["advantages"] = torch.where(kept, output["advantages"], 0.0)
        logged.extend(x if keep else 0.0 for x, keep in zip(theirs, values.kept, strict=True))
    else:
        logged.extend(theirs)
    if values.kept is not None:
        logs["extra"]["kept"].extend(values.kept.tolist())
    # With advantage 0, RLOO's own loss has nothing to train in what was dropped.
    if settings.grpo and (values.kept is not None or rows is not gathered.batch.rows):
        keep = padded(_mask(rows)).to(device)
        output["tool_mask"] = keep.to(output["completion_mask"].dtype)
        items = output["num_items_in_batch"]
        output["num_items_in_batch"] = torch.full_like(items, int(rows.trained.sum()))
    for name, value in values.metrics.items():
        metrics[f"rollmath/{name}"].append(value)
    output["rollmath_mask"] = padded(_mask(rows).astype(np.uint8))
    output["rollmath_group"] = torch.from_numpy(gathered.batch.groups.index[here].astype(np.int64))
