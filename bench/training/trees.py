"""Trees of rollouts: a token that several rollouts share is sampled, and counted, once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.training.model import CharTransformer
from bench.training.sample import Continuation, Prefixes, Sample, extend, score
from bench.training.tasks import Item, Task
from bench.training.tasks.base import BLANK


class Growing:
    """Trees while they grow. A node is some tokens after those of its parent.

    The roots are the bare prompts: the first ``trees`` nodes are those of the first prompt, and so on.
    """

    def __init__(self, items: Sequence[Item], trees: int = 1) -> None:
        self.items, self.trees = list(items), trees
        self.prompts = Prefixes.of(items).tokens.repeat_interleave(trees, 0)
        self.parents = [-1] * len(self.prompts)
        self.tokens: list[list[int]] = [[] for _ in self.parents]
        self.logprobs: list[list[float]] = [[] for _ in self.parents]
        self.entropy: list[list[float]] = [[] for _ in self.parents]
        self.leaves: list[int] = []
        self.sampled = 0
        self.flat_length: float | None = None

    def __len__(self) -> int:
        return len(self.parents)

    def add(self, parents: Sequence[int], new: Continuation) -> list[int]:
        """One child of each of these nodes; return the ids of the children."""
        first, lengths = len(self.parents), new.lengths.tolist()
        self.parents += list(parents)
        for mine, rows in ((self.tokens, new.tokens), (self.logprobs, new.logprobs), (self.entropy, new.entropy)):
            mine += [row[:n] for row, n in zip(rows.tolist(), lengths, strict=True)]
        self.sampled += new.sampled
        return list(range(first, len(self.parents)))

    def path(self, node: int) -> list[int]:
        """Ids from the root to the node."""
        path = [node]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path[::-1]

    def written(self, node: int) -> int:
        """Tokens after the prompt, those of the node included."""
        return sum(len(self.tokens[v]) for v in self.path(node))

    def cut(self, node: int, at: int) -> int:
        """Cut a node in two before its token ``at``; the lower part keeps its id. Return the id of the upper part."""
        if not 0 < at < len(self.tokens[node]):
            msg = f"cut(): 'at' must lie inside the {len(self.tokens[node])} tokens of node {node}, got {at}"
            raise ValueError(msg)
        upper = len(self.parents)
        self.parents.append(self.parents[node])
        self.parents[node] = upper
        for column in (self.tokens, self.logprobs, self.entropy):
            column.append(column[node][:at])
            column[node] = column[node][at:]
        return upper

    def split(self, leaf: int, at: int) -> int:
        """The node of the path to ``leaf`` that ends where ``at`` tokens are written; cut out if there is none."""
        left = at
        for node in self.path(leaf):
            size = len(self.tokens[node])
            if left <= size:
                return node if left == size else self.cut(node, left)
            left -= size
        msg = f"split(): 'at' must be at most {at - left}, the tokens up to the end of node {leaf}, got {at}"
        raise ValueError(msg)

    def prefixes(self, nodes: Sequence[int]) -> Prefixes:
        """Prompt and tokens up to the end of each node."""
        paths = [self.path(v) for v in nodes]
        rows = [[*self.prompts[p[0]].tolist(), *(t for v in p for t in self.tokens[v])] for p in paths]
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max())
        return Prefixes(torch.tensor([row + [BLANK] * (width - len(row)) for row in rows]), lengths)

    def sample(self, task: Task) -> Sample:
        """The rollouts that end in :attr:`leaves`, by group, with their paths."""
        paths = sorted((self.path(leaf) for leaf in self.leaves), key=lambda path: path[0])
        lengths = np.array([sum(len(self.tokens[v]) for v in path) for path in paths])
        shape = (len(paths), int(lengths.max()))
        tokens, logprobs, entropy = torch.full(shape, BLANK), torch.zeros(shape), torch.zeros(shape)
        for row, (path, n) in enumerate(zip(paths, lengths.tolist(), strict=True)):
            tokens[row, :n] = torch.tensor([t for v in path for t in self.tokens[v]], dtype=torch.int64)
            logprobs[row, :n] = torch.tensor([x for v in path for x in self.logprobs[v]])
            entropy[row, :n] = torch.tensor([x for v in path for x in self.entropy[v]])
        roots = np.array([path[0] for path in paths])
        group = roots // self.trees
        return Sample(
            self.prompts[roots], group, tokens, logprobs, entropy, lengths,
            score(task, self.items, group, tokens, lengths), self.sampled,
            paths=paths, path_lengths=[[len(self.tokens[v]) for v in path] for path in paths], items=self.items,
            flat_length=self.flat_length,
        )  # fmt: skip


def level_tree(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    branching: Sequence[int],
    segment: int,
    generator: torch.Generator,
) -> Sample:
    """The trees of SPO: every unfinished node of level d gets ``branching[d]`` children of ``segment`` tokens.

    On the last level a child runs to its end; one that ends earlier is a leaf on any level.
    """
    growing = Growing(items)
    active = list(range(len(items)))
    for level, width in enumerate(branching):
        last = level == len(branching) - 1
        limit = task.max_response - level * segment if last else segment
        copies = torch.arange(len(active)).repeat_interleave(width)
        new = extend(model, growing.prefixes(active), copies, limit, task.stop_token, generator)
        nodes = growing.add([active[i] for i in copies.tolist()], new)
        growing.leaves += [v for v, ended in zip(nodes, new.ended.tolist(), strict=True) if ended or last]
        active = [v for v, ended in zip(nodes, new.ended.tolist(), strict=True) if not ended]
        if not active:
            break
    return growing.sample(task)
