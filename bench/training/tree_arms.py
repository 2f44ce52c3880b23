"""Arms that sample trees, or probe their rollouts. A step samples about as many tokens as one of flat groups does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

import rollmath as rm
from bench.training.arms import ONE_UPDATE, PACKED, Arm, Draw, Scene, add, even, levels, named
from bench.training.chains import Cut, by_steps, by_uncertainty, probed, segment_gains
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


def eptree(prompts: int) -> Draw:
    """The trees of TreeRL, with three chains a prompt."""
    return surprisal_trees(prompts, chains=3)


def steps_of(probes: int, prompts: int, **others: int) -> Draw:
    """What VinePPO probes."""
    return even(lambda n: probed_chains(n, by_steps, size=2, probes=probes), prompts, **others)


def uncertain(probes: int, prompts: int, **others: int) -> Draw:
    """What SPO-chain probes."""
    return even(lambda n: probed_chains(n, by_uncertainty, size=2, probes=probes, threshold=0.9), prompts, **others)


ONCE, EVERY = ({"shared": shared, "zeros": zeros} for shared, zeros in (("once", "drop"), ("per_rollout", "keep")))
OUTSIDE = Advantage("tree.outside_subtree", options={"value": "mean_of_children"})
SPO, EPTREE = even(lambda n: levels(prompts=n), 56), even(eptree, 70)
SPO_CHAIN, VINEPPO = segments("spo_chain", 0.9), segments("vineppo", None)

add(
    Arm("spo_tree", "SPO-tree", named("spo_tree", **ONCE), SPO, settings=PACKED),
    Arm(
        "spo_tree_every",
        "SPO-tree, a shared token trains in every rollout",
        named("spo_tree", **EVERY),
        SPO,
        settings=PACKED,
    ),
    Arm("spo_tree_flat", "SPO-tree, each rollout computed by itself", named("spo_tree", **ONCE), SPO),
    Arm(
        "outside_subtree",
        "outside_subtree on the trees of SPO",
        named("spo_tree", advantage=OUTSIDE, **EVERY),
        SPO,
        settings=PACKED,
    ),
    Arm(
        "outside_subtree_once",
        "outside_subtree on the trees of SPO, a shared token trains once",
        named("spo_tree", advantage=OUTSIDE, **ONCE),
        SPO,
        settings=PACKED,
    ),
    Arm("tree_rl", "TreeRL", named("tree_rl"), EPTREE, settings=PACKED),
    Arm(
        "tree_rl_token_mean",
        "TreeRL, a mean over all tokens",
        named("tree_rl", aggregation="token_mean"),
        EPTREE,
        settings=PACKED,
    ),
    Arm(
        "outside_subtree_eptree",
        "outside_subtree on the trees of TreeRL, fresh branches as baselines",
        named("spo_tree", advantage=Advantage(beside_fresh, level="node"), **EVERY),
        with_birth(EPTREE),
        settings=PACKED,
    ),
    Arm("tree_grpo", "Tree-GRPO", named("tree_grpo"), even(lambda n: step_trees(n, trees=3), 70), settings=PACKED),
    Arm("spo_chain", "SPO-chain", SPO_CHAIN, uncertain(4, 52, countdown=34, logic=37)),
    Arm("spo_chain_2", "SPO-chain, 2 probes", SPO_CHAIN, uncertain(2, 88)),
    Arm("spo_chain_9", "SPO-chain, 9 probes", SPO_CHAIN, uncertain(9, 26)),
    Arm(
        "spo_chain_one",
        "SPO-chain, one update a step",
        SPO_CHAIN,
        uncertain(4, 52, countdown=34, logic=37),
        settings=ONE_UPDATE,
    ),
    Arm("vineppo", "VinePPO: values where steps begin", VINEPPO, steps_of(4, 44, countdown=37, logic=20)),
    Arm("vineppo_2", "VinePPO, 2 probes", VINEPPO, steps_of(2, 73)),
    Arm("vineppo_9", "VinePPO, 9 probes", VINEPPO, steps_of(9, 21)),
    Arm(
        "vineppo_one",
        "VinePPO, one update a step",
        VINEPPO,
        steps_of(4, 44, countdown=37, logic=20),
        settings=ONE_UPDATE,
    ),
)
