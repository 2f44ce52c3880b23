"""Rollouts of single responses, with exact log-probabilities and entropies, at temperature 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.training import model as models
from bench.training.model import CharTransformer
from bench.training.tasks import Item, Task
from bench.training.tasks.base import BLANK


@dataclass(frozen=True)
class Sample:
    """The rollouts of a training step. R rollouts, padded on the right to T tokens.

    Attributes:
        prompts: tokens of the prompt of each rollout, ``[R, P]``.
        group: the number of its prompt in this step, ``[R]``.
        tokens: int64 ``[R, T]``.
        logprobs: under the policy that sampled, float32 ``[R, T]``.
        entropy: of that policy before each token, in nats, float32 ``[R, T]``.
        lengths: int64 ``[R]``.
        rewards: float64 ``[R]``.
        sampled: how many tokens the step has sampled: one that several rollouts share counts once; those of probes and
            of rollouts that are thrown away count too. This is what a budget is of.
        mask: which tokens the agent has written, bool ``[R, T]``; None for all.
        trained: which of them train, bool ``[R, T]``; None for all.
        columns: what the recipe wants besides, by name.
        paths: of a tree: ids of the nodes from the root to the leaf of each rollout.
        path_lengths: of a tree: their tokens; those of the root are the prompt.
        items: the prompts.
        flat_length: of a tree: mean length of rollouts that were sampled in one go, if there are any.
    """

    prompts: Tensor
    group: NDArray[np.int64]
    tokens: Tensor
    logprobs: Tensor
    entropy: Tensor
    lengths: NDArray[np.int64]
    rewards: NDArray[np.float64]
    sampled: int
    mask: Tensor | None = None
    trained: Tensor | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    paths: list[list[int]] | None = None
    path_lengths: list[list[int]] | None = None
    items: Sequence[Item] = ()
    flat_length: float | None = None

    def __len__(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Prefixes:
    """Rows to go on from: prompts and what has been written so far, padded on the right. ``lengths`` counts both."""

    tokens: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, items: Sequence[Item]) -> Prefixes:
        """The bare prompts."""
        tokens = torch.tensor([item.prompt for item in items])
        return cls(tokens, torch.full((len(tokens),), tokens.shape[1]))


@dataclass(frozen=True)
class Continuation:
    """New tokens of each row, from column 0 on, padded on the right; ``ended``: with a stop, not by the limit."""

    tokens: Tensor
    logprobs: Tensor
    entropy: Tensor
    lengths: Tensor
    ended: Tensor

    @property
    def sampled(self) -> int:
        """How many tokens that was."""
        return int(self.lengths.sum())


@torch.no_grad()
def extend(
    model: CharTransformer,
    prefixes: Prefixes,
    copies: Tensor,
    limit: Tensor | int,
    stop: int,
    generator: torch.Generator | None,
) -> Continuation:
    """Continue rows ``copies`` of the prefixes, each by at most ``limit`` tokens or to its stop.

    Every prefix is read once, however often it is continued. Without a generator the likeliest token is taken.
    """
    cache, logits = models.prefill(model, prefixes.tokens, prefixes.lengths)
    cache, logits = cache.take(copies), logits[copies]
    rows, position = len(copies), prefixes.lengths[copies].clone()
    room = torch.as_tensor(limit).expand(rows)
    width = max(1, int(room.max())) if rows else 1
    tokens = torch.full((rows, width), BLANK)
    logprobs, entropy = torch.zeros(rows, width), torch.zeros(rows, width)
    lengths = torch.zeros(rows, dtype=torch.int64)
    ended = torch.zeros(rows, dtype=torch.bool)
    line = torch.arange(rows)  # the row of each line of the cache
    running = room > 0
    for step in range(width):
        if int(running.sum()) < 0.75 * len(running):  # copying the cache costs as much as a few useless lines
            kept = running.nonzero()[:, 0]
            line, logits, position, cache = line[kept], logits[kept], position[kept], cache.take(kept)
            running = running[kept]
        if not len(line):
            break
        logp = logits.log_softmax(-1)
        p = logp.exp()
        choice = logp.argmax(-1) if generator is None else torch.multinomial(p, 1, generator=generator)[:, 0]
        live = line[running]
        tokens[live, step] = choice[running]
        logprobs[live, step] = logp.gather(1, choice[:, None])[running, 0]
        entropy[live, step] = -(p * logp).sum(-1)[running]
        lengths[live] += 1
        stopped = running & (choice == stop)
        ended[line[stopped]] = True
        running = running & ~stopped & (room[line] > step + 1)
        if not bool(running.any()):
            break
        logits = models.advance(model, cache, choice, position)
        position = position + running.long()  # a line that has ended writes over its own last place
    return Continuation(tokens, logprobs, entropy, lengths, ended)


def score(
    task: Task, items: Sequence[Item], group: NDArray[np.int64], tokens: Tensor, lengths: Any
) -> NDArray[np.float64]:
    """Rewards of the rollouts."""
    rows = zip(group.tolist(), tokens.tolist(), np.asarray(lengths).tolist(), strict=True)
    return np.array([task.reward(items[g], row[:n]) for g, row, n in rows])


def sample_flat(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    size: int | Sequence[int],
    generator: torch.Generator | None,
) -> Sample:
    """``size`` rollouts of each prompt, one number for all or one for each."""
    counts = torch.tensor([size] * len(items) if isinstance(size, int) else list(size))
    copies = torch.arange(len(items)).repeat_interleave(counts)
    prefixes = Prefixes.of(items)
    new = extend(model, prefixes, copies, task.max_response, task.stop_token, generator)
    group, lengths = copies.numpy(), new.lengths.numpy()
    return Sample(
        prefixes.tokens[copies], group, new.tokens, new.logprobs, new.entropy, lengths,
        score(task, items, group, new.tokens, lengths), new.sampled, items=items,
    )  # fmt: skip
