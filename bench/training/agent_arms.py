"""Arms of agents: episodes of one task are a group, and only how credit is given to their steps differs."""

from __future__ import annotations

from typing import Any

import numpy as np

import rollmath as rm
from bench.training.arms import Arm, Draw, Scene, add, named
from bench.training.sample import Sample
from rollmath.recipes import Advantage

GAMMA = 0.95
TASKS_A_STEP, EPISODES = 16, 8


def episodes(tasks: int = TASKS_A_STEP, size: int = EPISODES) -> Draw:
    """So many episodes of each of some tasks."""

    def draw(scene: Scene) -> Sample:
        seeds = [seed for i in scene.pool.take(tasks) for seed in [scene.pool.items[i]] * size]
        return scene.task.play(scene.model, seeds, scene.generator)

    return draw


def discounted(rewards: np.ndarray, steps: rm.Steps, *, gamma: float = GAMMA) -> np.ndarray:
    """``gamma^(T-1-t) R`` against that of all steps of the task, whatever the state: what the discount alone does."""
    return np.asarray(rm.group.grpo(rm.graph.step_returns(steps, rewards, gamma=gamma), steps.row_groups))


def _steps(advantage: Advantage) -> Any:
    """The flat arm with other credit, so that no clip and no aggregation differs."""
    return named("grpo", advantage=advantage, aggregation="token_mean")


add(
    Arm("agent_grpo", "GRPO, the same for all steps", named("grpo", aggregation="token_mean"), episodes()),
    Arm("agent_returns", "discounted returns, no graph", _steps(Advantage(discounted)), episodes()),
    Arm("gigpo", "GiGPO", _steps(Advantage("graph.gigpo", options={"gamma": GAMMA, "scale": "std"})), episodes()),
    Arm(
        "gigpo_undiscounted",
        "GiGPO, gamma 1",
        _steps(Advantage("graph.gigpo", options={"gamma": 1.0, "scale": "std"})),
        episodes(),
    ),
    Arm("hgpo", "HGPO", _steps(Advantage("graph.hgpo", options={"gamma": GAMMA})), episodes()),
    Arm("salt", "SALT (a reconstruction)", _steps(Advantage("graph.salt", base="group.grpo")), episodes()),
)
