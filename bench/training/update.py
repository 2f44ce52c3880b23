"""From rollouts to a changed model: a recipe, minibatches of prompts, and a loss. All in between is `rollmath`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import rollmath as rm
from bench.training import model as models
from bench.training.model import CharTransformer
from bench.training.sample import Sample
from rollmath.demo.clock import Clock


@dataclass(frozen=True)
class Settings:
    """How the optimiser steps. Gradients are not clipped: their norm, by which Adam divides, is another in every arm.

    Attributes:
        learning_rate: of AdamW, constant.
        minibatches: of prompts; one optimiser step each.
        fresh_prox: take the log-probabilities of the model before the update for ``prox``, and those of the sampler for
            ``behaviour``; otherwise the sampler's are both.
        packed: compute a token that rollouts share once, by :func:`rollmath.prefix.pack`.
    """

    learning_rate: float = 1e-4
    minibatches: int = 4
    fresh_prox: bool = False
    packed: bool = False


@dataclass
class Progress:
    """What an update did: sums over its minibatches."""

    trained_tokens: int = 0
    signal_tokens: int = 0
    computed_tokens: int = 0
    gradient_norms: list[float] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)


def rows_of(sample: Sample) -> rm.Rows:
    """A row a rollout."""
    masks = [mask for mask in (sample.mask, sample.trained) if mask is not None]
    if not masks:
        return rm.Rows(np.arange(len(sample)), sample.lengths)
    flat = torch.stack(masks).all(0)[inside(sample)].numpy()
    return rm.Rows(np.arange(len(sample)), sample.lengths, mask=rm.Ragged.from_lengths(flat, sample.lengths))


def inside(sample: Sample) -> Tensor:
    """Which positions of the padded tokens hold tokens, bool ``[R, T]``."""
    return torch.arange(sample.tokens.shape[1]) < torch.from_numpy(sample.lengths)[:, None]


def prepare(recipe: rm.recipes.Recipe, sample: Sample) -> rm.recipes.Batch:
    """What trains, and its advantages."""
    columns = dict(sample.columns)
    if not recipe.advantage.on_steps:  # every arm of an agent samples what the agent saw and did
        columns = {name: x for name, x in columns.items() if name not in {"states", "actions"}}
    if recipe.advantage.of_rollouts:
        columns |= {"paths": sample.paths, "path_lengths": sample.path_lengths}
    return recipe.prepare(sample.rewards, sample.group, rows=rows_of(sample), **columns)


def parts(
    recipe: rm.recipes.Recipe, sample: Sample, settings: Settings
) -> Iterator[tuple[rm.recipes.Batch, NDArray[np.int64]]]:
    """Minibatches by prompts: all of its rows, for the counts, and the numbers of those with something to learn from.

    A rollout whose advantages are all 0 would not move the model, so it is not run. The normaliser counts its tokens.
    """
    batch = prepare(recipe, sample)
    active = _active(batch)
    groups = np.unique(sample.group)
    for some in np.array_split(groups, settings.minibatches):
        members = np.flatnonzero(np.isin(sample.group, some))
        if len(members):
            yield batch.take(members), members[active[members]]


def loss_of(
    model: CharTransformer, recipe: rm.recipes.Recipe, sample: Sample, part: rm.recipes.Batch,
    members: NDArray[np.int64], active: NDArray[np.int64], settings: Settings, prox: Tensor, clock: Clock,
) -> tuple[rm.loss.PolicyLoss, int]:  # fmt: skip
    """The loss of a minibatch, and how many tokens went through the model for it."""
    with clock("rollmath"):
        normalizer = rm.loss.Normalizer.local(part.rows)
        mine = part.take(np.searchsorted(members, active))
    if settings.packed:
        theta, computed = _packed(model, sample, active, clock)
        keep = inside(sample)[active]
        old = [x[active][keep] for x in (prox, sample.logprobs)]
    else:
        width = int(sample.lengths[active].max())
        with clock("model"):
            logits, labels = logits_of(model, sample, active, width)
        with clock("rollmath"):
            theta = rm.vocab.logprobs(logits, labels)
        computed = int(sample.lengths[active].sum()) + len(active) * sample.prompts.shape[1]
        old = [x[active, :width] for x in (prox, sample.logprobs)]
    logprobs = rm.LogProbs(theta=theta, prox=old[0], behaviour=old[1] if settings.fresh_prox else None)
    with clock("rollmath"):
        return recipe.policy_loss(logprobs, mine, normalizer=normalizer), computed


def update(
    model: CharTransformer,
    optimizer: torch.optim.Optimizer,
    recipe: rm.recipes.Recipe,
    sample: Sample,
    settings: Settings,
    clock: Clock,
) -> Progress:
    """One optimiser step for each minibatch."""
    done = Progress()
    with clock("model"):
        prox = evaluate_logprobs(model, sample) if settings.fresh_prox else sample.logprobs
    with clock("rollmath"):
        minibatches = list(parts(recipe, sample, settings))
    if settings.fresh_prox:
        done.computed_tokens += int(sample.lengths.sum()) + sample.prompts.numel()
    for part, active in minibatches:
        done.trained_tokens += int(part.rows.trained.sum())
        done.signal_tokens += signal_tokens(part, sample)
        if not len(active):
            continue
        members = np.asarray(part.rows.rollouts.ids)
        out, computed = loss_of(model, recipe, sample, part, members, active, settings, prox, clock)
        done.computed_tokens += computed
        with clock("model"):
            optimizer.zero_grad()
            out.loss.backward()
            norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
            optimizer.step()
        done.gradient_norms.append(float(norm))
        for name, value in out.metrics.items():
            done.metrics.setdefault(name, []).append(float(value))
    return done


def logits_of(model: CharTransformer, sample: Sample, active: NDArray[np.int64], width: int) -> tuple[Tensor, Tensor]:
    """Logits ``[n, width, V]`` and labels ``[n, width]`` of the responses of some rollouts."""
    prompts, responses = sample.prompts[active], sample.tokens[active, :width]
    logits = models.run(model, torch.cat([prompts, responses[:, :-1]], 1))[:, prompts.shape[1] - 1 :]
    return logits, responses


@torch.no_grad()
def evaluate_logprobs(model: CharTransformer, sample: Sample, chunk: int = 256) -> Tensor:
    """Log-probabilities of the responses under the model as it is, ``[R, T]``."""
    out = torch.zeros_like(sample.logprobs)
    for rows in np.array_split(np.arange(len(sample)), -(-len(sample) // chunk)):
        width = int(sample.lengths[rows].max())
        logits, labels = logits_of(model, sample, rows, width)
        out[rows, :width] = rm.vocab.logprobs(logits, labels)
    return out


def _packed(
    model: CharTransformer, sample: Sample, active: NDArray[np.int64], clock: Clock, room: int = 768
) -> tuple[Tensor, int]:
    """Log-probabilities of the responses, one after another; a token that rollouts share is computed once."""
    with clock("rollmath"):
        width = sample.prompts.shape[1]
        keep = torch.cat([torch.ones(len(active), width, dtype=torch.bool), inside(sample)[active]], 1)
        ids = torch.cat([sample.prompts[active], sample.tokens[active]], 1)[keep]
        offsets = np.concatenate([[0], np.cumsum(sample.lengths[active] + width)])
        forest = rm.Forest.from_sequences(
            ids.numpy(), offsets, groups=sample.group[active], prompt_lengths=np.full(len(active), width)
        )
        batch = rm.prefix.pack(forest)
    values = [torch.empty(0)] * len(active)
    computed = 0
    for piece in batch.split(max_tokens=room).parts:
        with clock("model"):
            x = models.hidden(model, piece.take_column(ids)[None], piece.position_ids(), piece.dense_mask())[0]
            logits = models.logits(model, piece.shift(x))
        with clock("rollmath"):
            found = piece.gather(rm.vocab.logprobs(logits, piece.labels(ids)))
            for row, i in enumerate(np.asarray(piece.rollouts).tolist()):
                values[i] = found.values[found.offsets[row] : found.offsets[row + 1]]
        computed += piece.n_tokens
    return torch.cat(values), computed


def _active(batch: rm.recipes.Batch) -> NDArray[np.bool_]:
    """Rows with an advantage that is not zero at a trained token."""
    rows, values = batch.rows, batch.advantages
    if isinstance(values, rm.Ragged):
        live = np.asarray(values.values) != 0
        if rows.mask is not None:
            live &= np.asarray(rows.mask, bool)
        return np.diff(np.concatenate([[0], np.cumsum(live)])[rows.offsets]) > 0
    of_rows = np.asarray(values)[rows.rollouts.index] if batch.level == "rollout" else np.asarray(values)
    return (of_rows != 0) & (rows.trained > 0)


def signal_tokens(part: rm.recipes.Batch, sample: Sample) -> int:
    """Sampled tokens that train with an advantage that is not zero; one that several rollouts share counts once."""
    rows, values = part.rows, part.advantages
    if not isinstance(values, rm.Ragged):
        live = np.repeat(_active(part), rows.lengths)
    else:
        live = np.asarray(values.values) != 0
    if rows.mask is not None:
        live &= np.asarray(rows.mask, bool)
    if sample.paths is None or sample.path_lengths is None:
        return int(live.sum())
    places: dict[tuple[int, int], int] = {}  # of a node of a tree: the number of its first token
    total, tokens = 0, []
    for row in np.asarray(rows.rollouts.ids).tolist():
        for node, n in list(zip(sample.paths[row], sample.path_lengths[row], strict=True))[1:]:
            start = places.setdefault((int(sample.group[row]), node), total)
            total += n
            tokens.append(np.arange(start, start + n))
    return len(np.unique(np.concatenate(tokens)[live]))
