"""Trees that are searched: where a rollout was surprised (TreeRL's EPTree), and at random steps (Tree-GRPO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

import rollmath as rm
from bench.training.model import CharTransformer
from bench.training.sample import Sample, extend
from bench.training.tasks import Item, Task
from bench.training.trees import Growing


@dataclass
class _Branch:
    """What was sampled in one go: the tokens of the rollout that ends in ``leaf`` from ``begin`` on."""

    leaf: int
    begin: int
    logprobs: list[float]
    forked: set[int] = field(default_factory=set)


@dataclass
class _Grower:
    """Trees, and what continues them."""

    growing: Growing
    model: CharTransformer
    task: Task
    generator: torch.Generator

    def __call__(self, nodes: Sequence[int], copies: int) -> list[int]:
        """``copies`` rollouts to the end from each of the nodes, in their order; return their leaves."""
        distinct = list(dict.fromkeys(nodes))  # read once, even where a node is named twice
        of = {node: i for i, node in enumerate(distinct)}
        rows = torch.tensor([of[node] for node in nodes]).repeat_interleave(copies)
        room = torch.tensor([self.task.max_response - self.growing.written(node) for node in distinct])
        prefixes = self.growing.prefixes(distinct)
        new = extend(self.model, prefixes, rows, room[rows], self.task.stop_token, self.generator)
        if not self.growing.leaves:
            self.growing.flat_length = float(new.lengths.double().mean())
        leaves = self.growing.add([distinct[i] for i in rows.tolist()], new)
        self.growing.leaves += leaves
        return leaves


def surprisal_tree(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    *,
    chains: int,
    forks: int,
    rounds: int,
    fresh: int,
    generator: torch.Generator,
) -> Sample:
    """The trees of TreeRL (EPTree): each round forks every chain at its most surprising tokens.

    A chain counts with what has branched off it. The surprisal of a token that was sampled is ``-log p``, which the
    paper calls its entropy. The token itself is sampled again. As in the official code the first token of a branch is
    never chosen (that would be the fork above it once more), and no token twice.

    Args:
        model: the policy.
        task: the task.
        items: the prompts; each is the one root of its rollouts.
        chains: M, first rollouts of each prompt.
        forks: N, tokens of each chain to fork at in each round; fewer where it has fewer.
        rounds: L.
        fresh: T, new rollouts from each fork.
        generator: of the random numbers.

    Returns:
        Up to ``chains (1 + forks rounds fresh)`` rollouts of each prompt.
    """
    grow = _Grower(Growing(items), model, task, generator)
    logprobs = grow.growing.logprobs
    trees = [[_Branch(leaf, 0, logprobs[leaf])] for leaf in grow(range(len(items)), chains)]
    for _ in range(rounds):
        chosen = [(tree, branch, at) for tree in trees for branch, at in _surprising(tree, forks)]
        # What was written below a place stays below it: the ids of leaves, and counts of tokens, outlive all cuts.
        nodes = [grow.growing.split(branch.leaf, branch.begin + at) for _, branch, at in chosen]
        if not nodes:
            break
        leaves = iter(grow(nodes, fresh))
        for tree, branch, at in chosen:
            branch.forked.add(at)
            new = [next(leaves) for _ in range(fresh)]
            tree += [_Branch(leaf, branch.begin + at, grow.growing.logprobs[leaf]) for leaf in new]
    return grow.growing.sample(task)


def _surprising(tree: list[_Branch], count: int) -> list[tuple[_Branch, int]]:
    """The most surprising tokens of all branches together, as branches and numbers of tokens in them."""
    places = [(branch, at) for branch in tree for at in range(len(branch.logprobs))]
    row = np.array([[branch.logprobs[at] for branch, at in places]])
    open_ = np.array([[at > 0 and at not in branch.forked for branch, at in places]])
    cuts = rm.ops.cut_by_surprisal(row, count, mask=open_)
    return [places[cut + 1] for cut in np.asarray(cuts.values).tolist()]


def step_tree(
    model: CharTransformer,
    task: Task,
    items: Sequence[Item],
    *,
    trees: int,
    expansions: int,
    rounds: int,
    generator: torch.Generator,
) -> Sample:
    """The trees of Tree-GRPO: a node is a step, and each round goes on from nodes of each tree drawn at random.

    They are drawn with replacement from the root and all steps that are not the last one of a rollout, by
    :func:`rollmath.tree.expansion_nodes`.

    Args:
        model: the policy.
        task: the task; its ``step_token`` ends a step.
        items: the prompts.
        trees: M, trees of each prompt, each of which begins with one rollout.
        expansions: N, nodes of each tree to go on from in each round, one rollout from each.
        rounds: L.
        generator: of the random numbers.

    Returns:
        ``trees (1 + expansions rounds)`` rollouts of each prompt.
    """
    growing = Growing(items, trees)
    grow = _Grower(growing, model, task, generator)
    _cut_steps(growing, grow(range(len(growing)), 1), task.step_token)
    for _ in range(rounds):
        forest = rm.Forest.from_parents(growing.parents)
        seed = int(torch.randint(2**62, (1,), generator=generator))
        nodes = rm.tree.expansion_nodes(forest, n=expansions, seed=seed)
        _cut_steps(growing, grow(nodes.ravel().tolist(), 1), task.step_token)
    return growing.sample(task)


def _cut_steps(growing: Growing, leaves: Sequence[int], step_token: int) -> None:
    """Cut new rollouts after the ends of their steps."""
    for leaf in leaves:
        ends = [at + 1 for at, token in enumerate(growing.tokens[leaf][:-1]) if token == step_token]
        done = 0
        for end in ends:
            growing.cut(leaf, end - done)
            done = end
