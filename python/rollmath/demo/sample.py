"""Sampling at temperature 1 with exact token log-probabilities: flat groups and trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .model import Cache, CharTransformer
from .tasks import BLANK, MAX_RESPONSE, STOP, Item


@dataclass(frozen=True)
class Tree:
    """The sampling tree of a batch: roots first, then the nodes of each level; siblings are never merged.

    Node v holds the ``length[v]`` tokens from ``start[v]`` on of row ``row[v]``, a rollout that passes through v.
    """

    parents: NDArray[np.int64]
    leaves: NDArray[np.int64]
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    length: NDArray[np.int64]

    def path(self, rollout: int) -> list[int]:
        """Node ids from the root to the leaf of a rollout."""
        path = [int(self.leaves[rollout])]
        while self.parents[path[-1]] >= 0:
            path.append(int(self.parents[path[-1]]))
        return path[::-1]


@dataclass(frozen=True)
class Rollouts:
    """Finished rollouts: responses [R, T] padded with blanks, their lengths, and what the sampler believed."""

    items: list[Item]
    group: NDArray[np.int64]
    tokens: Tensor
    logprobs: Tensor
    lengths: NDArray[np.int64]
    sampled_tokens: int
    tree: Tree | None = None

    def response(self, rollout: int) -> list[int]:
        """Tokens of one rollout, the full stop included."""
        tokens: list[int] = self.tokens[rollout, : self.lengths[rollout]].tolist()
        return tokens


@dataclass
class _Segment:
    """Up to ``limit`` new tokens per row, and the state of those rows which did not end."""

    tokens: Tensor
    logprobs: Tensor
    lengths: Tensor
    ended: Tensor
    cache: Cache
    logits: Tensor


def prompt_tensor(items: Sequence[Item]) -> Tensor:
    """Prompts as one [B, width] tensor."""
    return torch.tensor([item.prompt for item in items])


def _prefill(model: CharTransformer, items: Sequence[Item]) -> tuple[Cache, Tensor]:
    cache = Cache.empty(model.config, len(items))
    return cache, model(prompt_tensor(items), cache)[:, -1]


def _extend(
    model: CharTransformer, cache: Cache, logits: Tensor, limit: int, generator: torch.Generator | None
) -> _Segment:
    """Continue every row by ``limit`` tokens or to its full stop; without a generator the likeliest token is taken."""
    rows = logits.shape[0]
    tokens = torch.full((rows, limit), BLANK)
    logprobs = torch.zeros(rows, limit)
    lengths = torch.zeros(rows, dtype=torch.int64)
    line, running = (
        torch.arange(rows),
        torch.ones(rows, dtype=torch.bool),
    )  # the row of each cache line; is it unfinished?
    for step in range(limit):
        logp = logits.log_softmax(-1)
        choice = logp.argmax(-1) if generator is None else torch.multinomial(logp.exp(), 1, generator=generator)[:, 0]
        tokens[line[running], step] = choice[running]
        logprobs[line[running], step] = logp.gather(1, choice[:, None])[running, 0]
        lengths[line[running]] += 1
        running &= choice != STOP
        if int(running.sum()) < 0.75 * len(running):  # copying the cache costs as much as a few useless lines
            line, choice, logits = line[running], choice[running], logits[running]
            cache, running = cache.take(torch.nonzero(running)[:, 0]), running[running]
        if len(line) == 0:
            break
        logits = model(choice[:, None], cache)[:, -1]
    ended = torch.ones(rows, dtype=torch.bool)
    ended[line[running]] = False
    return _Segment(tokens, logprobs, lengths, ended, cache.take(torch.nonzero(running)[:, 0]), logits[running])


@torch.no_grad()
def sample_flat(
    model: CharTransformer, items: Sequence[Item], size: int, generator: torch.Generator | None
) -> Rollouts:
    """Sample ``size`` rollouts per item; without a generator decode greedily."""
    cache, logits = _prefill(model, items)
    group = torch.arange(len(items)).repeat_interleave(size)
    segment = _extend(model, cache.take(group), logits[group], MAX_RESPONSE, generator)
    lengths = segment.lengths.numpy()
    return Rollouts(list(items), group.numpy(), segment.tokens, segment.logprobs, lengths, int(lengths.sum()))


@torch.no_grad()
def sample_tree(
    model: CharTransformer,
    items: Sequence[Item],
    branching: Sequence[int],
    segment_length: int,
    generator: torch.Generator,
) -> Rollouts:
    """Sample one tree per item: every unfinished node of level d gets ``branching[d]`` children.

    A child has ``segment_length`` tokens, or runs to its end on the last level; one which ends is a leaf on any level.
    A token which several rollouts share is sampled, and counted, once.
    """
    cache, logits = _prefill(model, items)
    builder = _Builder(len(items))
    active = torch.arange(len(items))
    for level, width in enumerate(branching):
        last = level == len(branching) - 1
        start = level * segment_length
        copies = torch.arange(len(active)).repeat_interleave(width)
        limit = MAX_RESPONSE - start if last else segment_length
        segment = _extend(model, cache.take(copies), logits[copies], limit, generator)
        nodes = builder.add(active[copies], segment, start, last)
        active, cache, logits = nodes[~segment.ended], segment.cache, segment.logits
        if len(active) == 0:
            break
    return builder.finish(list(items))


class _Builder:
    """Collects the levels of a tree sample; nodes have ascending ids, level by level."""

    def __init__(self, roots: int) -> None:
        self.parents: list[int] = [-1] * roots
        self.start: list[int] = [0] * roots
        self.tokens: list[list[int]] = [[] for _ in range(roots)]
        self.logprobs: list[list[float]] = [[] for _ in range(roots)]
        self.leaves: list[int] = []

    def add(self, parents: Tensor, segment: _Segment, start: int, last: bool) -> Tensor:
        """Append one level and return the ids of its nodes."""
        first = len(self.parents)
        self.parents += parents.tolist()
        self.start += [start] * len(parents)
        lengths = segment.lengths.tolist()
        self.tokens += [row[:n] for row, n in zip(segment.tokens.tolist(), lengths, strict=True)]
        self.logprobs += [row[:n] for row, n in zip(segment.logprobs.tolist(), lengths, strict=True)]
        ids = torch.arange(first, first + len(parents))
        self.leaves += ids.tolist() if last else ids[segment.ended].tolist()
        return ids

    def finish(self, items: list[Item]) -> Rollouts:
        """Write every root-to-leaf path as one padded row and note one such row for every node."""
        shape = (len(self.leaves), MAX_RESPONSE)
        tokens, logprobs = torch.full(shape, BLANK), torch.zeros(shape)
        lengths, group = np.zeros(shape[0], np.int64), np.zeros(shape[0], np.int64)
        row = np.full(len(self.parents), -1, np.int64)
        for rollout, leaf in enumerate(self.leaves):
            node = leaf
            lengths[rollout] = self.start[leaf] + len(self.tokens[leaf])
            while node >= 0:
                row[node] = rollout if row[node] < 0 else row[node]
                span = slice(self.start[node], self.start[node] + len(self.tokens[node]))
                tokens[rollout, span] = torch.tensor(self.tokens[node], dtype=torch.int64)
                logprobs[rollout, span] = torch.tensor(self.logprobs[node])
                group[rollout], node = node, self.parents[node]
        length = np.array([len(part) for part in self.tokens])
        tree = Tree(np.array(self.parents), np.array(self.leaves), row, np.array(self.start), length)
        return Rollouts(items, group, tokens, logprobs, lengths, int(length.sum()), tree)
