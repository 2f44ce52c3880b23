"""Arms that sample trees, or probe their rollouts.

At the start of the sums a step of ``spo_tree`` samples 1.2 times as many tokens as 64 prompts by 8 do, ``vineppo`` and
``spo_chain`` 1.2 times; what is sampled for the latter falls to half as the policy becomes sure. The others about as
many.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

import rollmath as rm
from bench.training.arms import PACKED, Arm, Draw, Scene, add, named
from bench.training.chains import Cut, by_probability, by_steps, probed, segment_gains
from bench.training.sample import Sample
from bench.training.search import step_tree, surprisal_tree
from bench.training.tasks import Item, Task
from rollmath.recipes import Advantage, Recipe


def _items(scene: Scene, prompts: int) -> list[Item]:
    return [scene.pool.items[i] for i in scene.pool.take(prompts)]


def surprisal_trees(prompts: int, *, chains: int, forks: int = 2, rounds: int = 1, fresh: int = 2) -> Draw:
    """The trees of TreeRL, whose paper has 6 chains and the defaults here where others sample 16 rollouts."""

    def draw(scene: Scene) -> Sample:
        return surprisal_tree(
            scene.model, scene.task, _items(scene, prompts),
            chains=chains, forks=forks, rounds=rounds, fresh=fresh, generator=scene.generator,
        )  # fmt: skip

    return draw


def with_birth(draw: Draw) -> Draw:
    """Tell :func:`beside_fresh` in which order the rollouts were sampled: that is the order of the ids of leaves."""

    def drawn(scene: Scene) -> Sample:
        sample = draw(scene)
        assert sample.paths is not None
        return dataclasses.replace(sample, columns={"born": np.array([float(path[-1]) for path in sample.paths])})

    return drawn


def step_trees(prompts: int, *, trees: int, expansions: int = 2, rounds: int = 1) -> Draw:
    """The trees of Tree-GRPO; the defaults are those of its script."""

    def draw(scene: Scene) -> Sample:
        return step_tree(
            scene.model, scene.task, _items(scene, prompts),
            trees=trees, expansions=expansions, rounds=rounds, generator=scene.generator,
        )  # fmt: skip

    return draw


def probed_chains(prompts: int, cut: Cut, *, size: int = 1, probes: int = 4, threshold: float | None = None) -> Draw:
    """Rollouts, and probes from their cuts."""

    def draw(scene: Scene) -> Sample:
        return probed(
            scene.model, scene.task, _items(scene, prompts),
            size=size, cut=cut, probes=probes, threshold=threshold, generator=scene.generator,
        )  # fmt: skip

    return draw


def beside_fresh(forest: rm.Forest, rewards: np.ndarray, *, born: np.ndarray) -> np.ndarray:
    """:func:`rollmath.tree.outside_subtree` where a fork was chosen by the continuation that was there before.

    ``A(v) = V(v) - mean of the V of its siblings``, of those alone that were sampled after the fork was chosen, and
    ``V`` the mean of the children likewise. The chains of a prompt were not chosen by anything, so all count there.

    Args:
        forest: of the rollouts.
        rewards: one a rollout.
        born: numbers of the rollouts in the order in which they were sampled.
    """
    first = rm.ops.up(forest, born, how="min")
    original = (first == rm.ops.parent(forest, first)) & (forest.depth > 1)
    weights = rm.tree.probe_only_fresh(forest, original)
    value = rm.ops.up(forest, rewards, how="mean_of_children", weights=weights)
    siblings = forest.siblings
    others = rm.ops.gather(rm.ops.segment_sum(weights, siblings), siblings) - weights
    total = rm.ops.gather(rm.ops.segment_sum(weights * value, siblings), siblings) - weights * value
    base = np.where(others > 0, total / np.maximum(others, 1), np.nan)
    base[forest.roots] = np.nan
    base = rm.ops.down(forest, base, how="last")  # with nobody beside it, a node looks further up
    return np.where(np.isnan(base), 0.0, value - base)


def segments(name: str, threshold: float | None) -> Callable[[Task], Recipe]:
    """The loss of SPO-chain, without KL."""

    def make(_: Task) -> Recipe:
        return Recipe(
            name=name,
            advantage=Advantage(segment_gains, options={"threshold": threshold}),
            objective=rm.loss.PPO(clip=(0.2, 0.2), max_log_ratio=10.0),
            aggregation="token_mean",
        )

    return make


EPTREE = surprisal_trees(70, chains=3)

add(
    Arm("tree_rl", "TreeRL", named("tree_rl"), EPTREE, settings=PACKED),
    Arm(
        "outside_subtree_eptree",
        "outside_subtree on the trees of TreeRL, fresh branches as baselines",
        named("spo_tree", advantage=Advantage(beside_fresh, level="node")),
        with_birth(EPTREE),
        settings=PACKED,
    ),
    Arm("tree_grpo", "Tree-GRPO", named("tree_grpo"), step_trees(70, trees=3), settings=PACKED),
    Arm(
        "spo_chain",
        "SPO-chain",
        segments("spo_chain", 0.9),
        probed_chains(64, by_probability(1), size=2, threshold=0.9),
    ),
    Arm("vineppo", "VinePPO: values where steps begin", segments("vineppo", None), probed_chains(48, by_steps, size=2)),
)
