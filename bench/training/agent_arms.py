"""Arms of agents: episodes of one task are a group, and only how credit is given to their steps differs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import rollmath as rm
from bench.training.arms import Arm, Draw, Scene, add, named
from bench.training.sample import Sample
from bench.training.tasks import Task
from rollmath.recipes import Advantage, Recipe

GAMMA = 0.95
TASKS_A_STEP, EPISODES = 8, 8


def episodes(tasks: int = TASKS_A_STEP, size: int = EPISODES) -> Draw:
    """So many episodes of each of some tasks."""

    def draw(scene: Scene) -> Sample:
        seeds = [seed for i in scene.pool.take(tasks) for seed in [scene.pool.items[i]] * size]
        return scene.task.play(scene.model, seeds, scene.generator)

    return draw


def discounted(rewards: np.ndarray, steps: rm.Steps, *, gamma: float = GAMMA) -> np.ndarray:
    """``gamma^(T-1-t) R`` against that of all steps of the task, whatever the state: what the discount alone does."""
    return np.asarray(rm.group.grpo(rm.graph.step_returns(steps, rewards, gamma=gamma), steps.row_groups))


def _steps(advantage: Advantage) -> Callable[[Task], Recipe]:
    """The flat arm with other credit, so that no clip and no aggregation differs; conventions are the methods' own."""
    return named("grpo", advantage=advantage, aggregation="token_mean")


def _gigpo(gamma: float) -> Advantage:
    """Both terms divided by their spread, as its scripts do where success is the reward."""
    options = {"gamma": gamma, "scale": "std", "statistics": "trajectories"}
    return Advantage("graph.gigpo", options=options, convention="GIGPO")


def _hgpo(base: str | None = None) -> Advantage:
    """A step whose view nobody else has seen gets 0, or what the episode gets."""
    return Advantage("graph.hgpo", options={"gamma": GAMMA}, convention="HGPO", base=base)


def _arm(name: str, title: str, recipe: Callable[[Task], Recipe]) -> Arm:
    return Arm(name, title, recipe, episodes(), settings={"minibatches": 1})


add(
    _arm("agent_grpo", "GRPO, the same for all steps", named("grpo", aggregation="token_mean")),
    _arm("agent_returns", "discounted returns, no graph", _steps(Advantage(discounted))),
    _arm("gigpo", "GiGPO", _steps(_gigpo(GAMMA))),
    _arm("gigpo_undiscounted", "GiGPO, gamma 1", _steps(_gigpo(1.0))),
    _arm("hgpo", "HGPO", _steps(_hgpo())),
    _arm("hgpo_base", "HGPO, the whole episode as one more group", _steps(_hgpo(base="group.grpo"))),
    _arm("salt", "SALT (a reconstruction)", _steps(Advantage("graph.salt", base="group.grpo"))),
)
