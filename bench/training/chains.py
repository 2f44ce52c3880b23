"""Single rollouts whose prefixes are valued by sampling from them again: SPO-chain and VinePPO."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

import rollmath as rm
from bench.training.model import CharTransformer
from bench.training.sample import Prefixes, Sample, extend, sample_flat
from bench.training.tasks import Item, Task
from bench.training.tasks.base import BLANK
from bench.training.update import inside

# Tokens of low probability from one cut to the next: a rollout has two or three cuts, as many as steps.
STRIDES = {"countdown": 8, "logic": 7}

Cut = Callable[[Sample, Task], rm.Ragged]


def by_probability(stride: int, threshold: float = 0.9) -> Cut:
    """Before every ``stride``-th token of low probability."""

    def cut(sample: Sample, _: Task) -> rm.Ragged:
        return rm.ops.cut_by_probability(_flat(sample, sample.logprobs), threshold=threshold, stride=stride)

    return cut


def by_uncertainty(sample: Sample, task: Task) -> rm.Ragged:
    """As :func:`by_probability`, with the stride of the task."""
    return by_probability(STRIDES.get(task.name, 1))(sample, task)


def by_steps(sample: Sample, task: Task) -> rm.Ragged:
    """Where steps begin, the prompt among these places."""
    return rm.ops.cut_by_delimiter(_flat(sample, sample.tokens), task.step_token, include_prompt=True)


def probed(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    *,
    size: int,
    cut: Cut,
    probes: int,
    threshold: float | None,
    generator: torch.Generator,
) -> Sample:
    """``size`` rollouts of each prompt, and ``probes`` more from each of their cuts, which do not train.

    Equal prefixes of a prompt are probed once, as in the official code of SPO. The columns are those of
    :func:`segment_gains`.

    Args:
        model: the policy.
        task: the task.
        items: the prompts.
        size: rollouts of each.
        cut: where to cut them.
        probes: K, rollouts from each cut.
        threshold: tokens of at least that probability do not train; None for all.
        generator: of the random numbers.
    """
    sample = sample_flat(model, task, items, size, generator)
    cuts = cut(sample, task)
    rows = np.repeat(np.arange(len(sample)), cuts.lengths)
    tokens, group = sample.tokens.tolist(), sample.group.tolist()
    keys = [(group[row], *tokens[row][: at + 1]) for row, at in zip(rows.tolist(), cuts.values.tolist(), strict=True)]
    prefixes = list(dict.fromkeys(keys))
    values, sampled = _values(model, task, items, prefixes, probes, generator)
    number = {prefix: i for i, prefix in enumerate(prefixes)}
    found = values[[number[key] for key in keys]]
    logprobs = _flat(sample, sample.logprobs)
    trained = None
    if threshold is not None:
        trained = torch.zeros_like(sample.tokens, dtype=torch.bool)
        mask = rm.tree.probability_mask(logprobs, threshold=threshold)
        trained[inside(sample)] = torch.from_numpy(mask.values)
    columns = {"chances": logprobs, "cuts": cuts, "values": rm.Ragged(found, cuts.offsets)}
    return dataclasses.replace(sample, sampled=sample.sampled + sampled, trained=trained, columns=columns)


def segment_gains(
    rewards: np.ndarray,
    *,
    mask: rm.Ragged,
    chances: rm.Ragged,
    cuts: rm.Ragged,
    values: rm.Ragged,
    threshold: float | None = 0.9,
) -> rm.Ragged:
    """``V(c_j) - V(c_{j-1})`` of segments, whitened over what trains, as the official code of SPO does.

    With ``threshold=None`` and cuts at steps it is VinePPO.

    Args:
        rewards: of the rollouts.
        mask: what trains.
        chances: log-probabilities under the policy that sampled.
        cuts: where segments end.
        values: of the prefixes up to there.
        threshold: as in :func:`rollmath.tree.spo_chain`.
    """
    gains = rm.tree.spo_chain(chances, cuts, values, rewards, threshold=threshold)
    return rm.ops.whiten(gains, mask=mask)


def _values(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    prefixes: Sequence[tuple[int, ...]],
    probes: int,
    generator: torch.Generator,
) -> tuple[np.ndarray, int]:
    """Values of prefixes ``(prompt, token, ...)``, and how many tokens were sampled for them."""
    if not prefixes:
        return np.zeros(0), 0
    rows = [[*items[prefix[0]].prompt, *prefix[1:]] for prefix in prefixes]
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.tensor([row + [BLANK] * (int(lengths.max()) - len(row)) for row in rows])
    copies = torch.arange(len(rows)).repeat_interleave(probes)
    room = (task.context - lengths)[copies]
    new = extend(model, Prefixes(padded, lengths), copies, room, task.stop_token, generator)
    rewards = []
    for i, row, n in zip(copies.tolist(), new.tokens.tolist(), new.lengths.tolist(), strict=True):
        rewards.append(task.reward(items[prefixes[i][0]], [*prefixes[i][1:], *row[:n]]))
    scored = np.array(rewards).reshape(len(rows), probes)
    truncated = ~new.ended.numpy().reshape(scored.shape)
    return rm.tree.probe_values(scored, truncated=truncated), new.sampled


def _flat(sample: Sample, padded: torch.Tensor) -> rm.Ragged:
    """The tokens of the rollouts, one after another."""
    return rm.Ragged.from_lengths(padded[inside(sample)].numpy(), sample.lengths)
