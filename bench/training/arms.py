"""What is compared: an arm is a way to sample, a recipe, and how the optimiser steps. Nothing else differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import rollmath as rm
from bench.training.model import CharTransformer
from bench.training.sample import Sample, sample_flat
from bench.training.tasks import Item, Task
from bench.training.trees import level_tree
from bench.training.update import Settings
from rollmath import recipes
from rollmath.recipes import Recipe


class Pool:
    """The training prompts of a run: a fixed number, in a new order in each pass; every arm of a seed has the same."""

    def __init__(self, items: list[Item], seed: int) -> None:
        self.items, self.seed, self.at = items, seed, 0

    def take(self, count: int) -> list[int]:
        """Numbers of the next prompts."""
        out = [self._order(k // len(self.items))[k % len(self.items)] for k in range(self.at, self.at + count)]
        self.at += count
        return out

    def _order(self, lap: int) -> list[int]:
        order: list[int] = np.random.default_rng([self.seed, lap]).permutation(len(self.items)).tolist()
        return order


@dataclass
class Scene:
    """What an arm samples from.

    Attributes:
        model: the policy that samples, which may lag behind the one that is trained.
        task: the task.
        pool: the prompts.
        generator: of all random numbers.
        step: number of the training step, from 0.
        memory: what the arm keeps from step to step: tensors and plain values, which the checkpoint holds.
    """

    model: CharTransformer
    task: Task
    pool: Pool
    generator: torch.Generator
    step: int = 0
    memory: dict[str, Any] = field(default_factory=dict)


Draw = Callable[[Scene], Sample]


@dataclass(frozen=True)
class Arm:
    """One line of a comparison.

    Attributes:
        name: as in tables and files.
        title: in words.
        recipe: of the task; made for it because some need the longest response.
        draw: how a step samples.
        lag: how many training steps the policy that samples is behind.
        settings: what differs from :class:`~bench.training.update.Settings`.
    """

    name: str
    title: str
    recipe: Callable[[Task], Recipe]
    draw: Draw
    lag: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


PROMPTS, SIZE, MINIBATCHES = 64, 8, Settings().minibatches
COUNT = "prompts"  # what `even` remembers, which is not about any prompt
PACKED = {"packed": True}  # the same losses, and less to compute: see the arm spo_tree_flat


def flat(size: int = SIZE, prompts: int = PROMPTS) -> Draw:
    """Groups of equal size."""

    def draw(scene: Scene) -> Sample:
        items = [scene.pool.items[i] for i in scene.pool.take(prompts)]
        return sample_flat(scene.model, scene.task, items, size, scene.generator)

    return draw


def levels(branching: tuple[int, ...] = (4, 2, 2), segment: int | None = None, prompts: int = PROMPTS) -> Draw:
    """The trees of SPO; a segment is an equal part of a usual response if no length is given."""

    def draw(scene: Scene) -> Sample:
        items = [scene.pool.items[i] for i in scene.pool.take(prompts)]
        width = segment or max(1, round(scene.task.usual_response / len(branching)))
        return level_tree(scene.model, scene.task, items, branching, width, scene.generator)

    return draw


def even(draw: Callable[[int], Draw], prompts: int, **others: int) -> Draw:
    """As many prompts a step as make it sample what 64 groups of 8 do: 512 times the mean length of a flat rollout.

    So a budget has as many steps in all arms. What a prompt takes is what it took in the step before.

    Args:
        draw: what samples so many prompts.
        prompts: of the first step.
        others: of the first step of tasks where that would be far off.
    """

    def drawn(scene: Scene) -> Sample:
        count = int(scene.memory.get(COUNT, others.get(scene.task.name, prompts)))
        sample = draw(count)(scene)
        wanted = PROMPTS * SIZE * usual_length(sample) * count / sample.sampled
        scene.memory[COUNT] = min(max(MINIBATCHES, round(wanted)), 4 * PROMPTS)
        return sample

    return drawn


def usual_length(sample: Sample) -> float:
    """Mean length of a rollout that is not forked: what is forked often is long, so leaves of a tree are too."""
    if sample.paths is None:
        return float(sample.lengths.mean())
    if sample.flat_length is not None:
        return sample.flat_length
    forest = rm.Forest.from_paths(sample.paths, root="first")
    return float(rm.ops.up(forest, sample.lengths.astype(float), how="mean_of_children")[forest.roots].mean())


def named(name: str, **changes: Any) -> Callable[[Task], Recipe]:
    """A recipe of the library without its KL terms; no arm has one."""

    def make(task: Task) -> Recipe:
        longest = {"max_length": task.max_response} if name == "dr_grpo" else {}
        return recipes.get(name, kl=False, **longest).replace(reward_kl=0.0, **changes)

    return make


ONE_UPDATE, SMALL = {"minibatches": 1}, flat(prompts=PROMPTS // MINIBATCHES)  # as many updates as the others
ARMS: dict[str, Arm] = {}


def add(*arms: Arm) -> None:
    """Put arms into the table."""
    for arm in arms:
        if arm.name in ARMS:
            msg = f"add(): there is an arm {arm.name!r} already"
            raise ValueError(msg)
        ARMS[arm.name] = arm


add(
    Arm("grpo", "GRPO, flat groups", named("grpo"), flat()),
    Arm("grpo_packed", "GRPO, packed as prefix trees", named("grpo"), flat(), settings=PACKED),
    Arm("grpo_token_mean", "GRPO, a mean over all tokens", named("grpo", aggregation="token_mean"), flat()),
    Arm("dr_grpo", "Dr. GRPO", named("dr_grpo"), flat()),
    Arm("rloo", "RLOO", named("rloo"), flat()),
    Arm("rloo_one", "RLOO, one update a step", named("rloo"), flat(), settings=ONE_UPDATE),
    Arm("small_rloo", "RLOO, 16 prompts and one update a step", named("rloo"), SMALL, settings=ONE_UPDATE),
)
