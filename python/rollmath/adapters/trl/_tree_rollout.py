"""A rollout_func that samples trees with the trainer's own model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rollmath._arrays import describe
from rollmath._checks import whole


@dataclass(frozen=True)
class _Node:
    """What some completions of a prompt begin with, and how many: the number of the prompt, nodes from the root on."""

    tree: int
    path: tuple[Any, ...]
    lengths: tuple[int, ...]
    tokens: tuple[int, ...]
    slots: int

    def child(self, number: int, new: list[int], width: int) -> _Node:
        """One of ``width`` that go on from here."""
        path, lengths = (*self.path, number), (*self.lengths, len(new))
        return _Node(self.tree, path, lengths, (*self.tokens, *new), self.slots // width)


def tree_rollout(
    branching: Sequence[int], *, segment_tokens: int | Sequence[int]
) -> Callable[[list[Any], Any], dict[str, list[Any] | None]]:
    """A ``rollout_func`` for :class:`GRPOTrainer` whose completions are the leaves of one tree a prompt.

    ``branching[d]`` children are sampled below each unfinished node of level ``d`` (the prompt is level 0). A child has
    ``segment_tokens`` new tokens, on the last level as many as ``max_completion_length`` leaves; one that ends before
    is a leaf on any level. The trainer generates as it does by itself, with its own generation options, a level at a
    time.

    TRL wants ``num_generations`` completions of each prompt, which must be the product of ``branching``. A leaf on an
    inner level is given back for all completions that would have gone on from it. **These are copies, and say so**:
    they have the same ``paths``, by which a recipe on trees leaves them out: the first enters the statistics and
    trains, the others get advantage 0 and train no token. Reward functions and TRL's own log see every copy (the mean
    reward there weighs a leaf as its whole subtree, as the mean of children does); other recipes, and advantages of
    TRL, would count each as a rollout.

    Args:
        branching: children of a node, by level.
        segment_tokens: tokens of a node: one number, or one for each level but the last.

    Returns:
        A function of prompts and trainer, with the fields of TRL, and ``paths`` and ``path_lengths``: the nodes of each
        completion from the root on, and their tokens. There are no log-probabilities of the sampler.

    Raises:
        ValueError: numbers out of range; when it is called, a product that is not the number of completions of a
            prompt, segments as long as a whole completion, a trainer that generates by vLLM.
        TypeError: no integers.

    >>> from rollmath.adapters.trl import tree_rollout
    >>> rollout = tree_rollout((4, 4), segment_tokens=64)  # num_generations=16
    """
    who = "tree_rollout"
    if isinstance(branching, (str, bytes)) or not isinstance(branching, Sequence) or not len(branching):
        msg = f"{who}(): 'branching' must be a list with one number a level, got {describe(branching)}"
        raise TypeError(msg)
    widths = [whole(who, f"branching[{level}]", width, 1) for level, width in enumerate(branching)]
    levels = len(widths) - 1
    given = list(segment_tokens) if isinstance(segment_tokens, Sequence) else [segment_tokens] * levels
    if len(given) != levels:
        msg = f"{who}(): 'segment_tokens' must have length {levels} (= len(branching) - 1), got {len(given)}"
        raise ValueError(msg)
    limits = [whole(who, f"segment_tokens[{level}]", limit, 1) for level, limit in enumerate(given)]
    size = math.prod(widths)

    def rollout(prompts: list[Any], trainer: Any) -> dict[str, list[Any] | None]:
        _check(who, trainer, prompts, size, limits)
        asked, images, fields = trainer._tokenize_prompts(prompts[::size])
        if images is not None or fields:
            msg = f"{who}(): prompts must be text alone, got images"
            raise ValueError(msg)
        name = f"{trainer.accelerator.process_index}/{trainer.state.global_step}"
        level = [_Node(i, (f"{name}/{i}",), (len(ids),), (), size) for i, ids in enumerate(asked)]
        leaves: list[_Node] = []
        for width, limit in zip(widths, [*limits, trainer.max_completion_length - sum(limits)], strict=True):
            parents = [node for node in level for _ in range(width)]
            texts = [[*asked[node.tree], *node.tokens] for node in parents]
            # Where all have ended, too: processes that share a model generate together.
            found = _generate(trainer, texts or asked[:1], limit)[: len(texts)]
            level = [node.child(i, new, width) for i, (node, new) in enumerate(zip(parents, found, strict=True))]
            leaves += [node for node in level if node.tokens[-1] in trainer.eos_token_ids]
            level = [node for node in level if node.tokens[-1] not in trainer.eos_token_ids]
        leaves += level
        rows = [node for node in sorted(leaves, key=lambda node: node.tree) for _ in range(node.slots)]
        return {
            "prompt_ids": [list(asked[node.tree]) for node in rows],
            "completion_ids": [list(node.tokens) for node in rows],
            "logprobs": None,
            "paths": [list(node.path) for node in rows],
            "path_lengths": [list(node.lengths) for node in rows],
        }

    return rollout


def _check(who: str, trainer: Any, prompts: list[Any], size: int, limits: list[int]) -> None:
    each = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
    if each != size:
        which = "num_generations" if trainer.model.training else "num_generations_eval"
        msg = f"{who}(): the product of 'branching', {size}, must be {which} of the config, which is {each}; change one"
        raise ValueError(msg)
    if len(prompts) % size or any(prompts[i] != prompts[i - i % size] for i in range(len(prompts))):
        msg = (
            f"{who}(): a process must have all {size} completions of a prompt, got {len(prompts)} prompts that are not "
            f"{size} of each; make per_device_train_batch_size * steps_per_generation a multiple of {size}"
        )
        raise ValueError(msg)
    if sum(limits) >= trainer.max_completion_length:
        msg = (
            f"{who}(): 'segment_tokens' must leave tokens for the last level, but {sum(limits)} is not less than "
            f"max_completion_length={trainer.max_completion_length}"
        )
        raise ValueError(msg)
    if trainer.use_vllm:
        msg = f"{who}(): use_vllm=True is not supported: its limit of tokens is not that of a segment; set it to False"
        raise ValueError(msg)


def _generate(trainer: Any, texts: list[list[int]], limit: int) -> list[list[int]]:
    """Up to ``limit`` tokens after each text, as the trainer generates."""
    with _limited(trainer, limit):
        found: list[list[int]] = trainer._generate_single_turn(texts, None, {}, 1)[0]
    return found


@contextmanager
def _limited(trainer: Any, limit: int) -> Iterator[None]:
    config = trainer.generation_config
    trainer.generation_config = copy.copy(config)
    trainer.generation_config.max_new_tokens = limit
    try:
        yield
    finally:
        trainer.generation_config = config
