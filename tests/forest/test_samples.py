"""Real search trees: the game-of-24 dump of tree-of-thought-llm, read by the prefixes of its texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "game24.svg"
#: The puzzle that docs/forests.md shows.
SHOWN = 925


def listed(puzzles):
    """Every proposal of every step, its puzzle, and the reward of those that the search answered with."""
    texts, groups, rewards = [], [], []
    for puzzle in puzzles:
        reward = dict(zip(puzzle["ys"], (info["r"] for info in puzzle["infos"]), strict=True))
        for step in puzzle["steps"]:
            texts += step["new_ys"]
            groups += [puzzle["idx"]] * len(step["new_ys"])
            rewards += [reward.get(text) for text in step["new_ys"]]
    return texts, groups, rewards


@pytest.fixture(scope="module")
def puzzles(samples):
    return json.loads((samples("game24-trees") / "trees.json").read_text())


def test_the_counts(puzzles):
    texts, groups, rewards = listed(puzzles)
    assert len(texts) == 8412
    whole = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="nan")
    assert (whole.n_nodes, whole.n_trees, whole.n_leaves) == (8497, 100, 6898)
    assert (~np.isnan(whole.rewards)).sum() == 500
    with pytest.raises(ValueError, match=r"'rewards' must have a number for every leaf, got none for texts\[\d+\]"):
        Forest.from_prefix_texts(texts, groups=groups, rewards=rewards)

    forest = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="prune")
    assert repr(forest) == "Forest(1388 nodes, 500 rollouts, 100 trees)"
    assert str(forest.report) == (
        "8412 texts made 8497 nodes; equal to an earlier text: 15, added roots: 100\n"
        "kept 500 of 6898 rollouts and 1388 of 8497 nodes; dropped trees: 0"
    )
    assert forest.rewards.sum() == sum(info["r"] for puzzle in puzzles for info in puzzle["infos"])


def test_parents_are_those_of_the_search(puzzles):
    texts, groups, rewards = listed(puzzles)
    forest = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="nan")
    node = dict(zip(zip(groups, texts, strict=True), forest.report.nodes.tolist(), strict=True))
    for puzzle in puzzles:
        for step in puzzle["steps"]:
            for text in step["new_ys"]:
                above = forest.parents[node[puzzle["idx"], text]]
                kept = {node.get((puzzle["idx"], y), -1) for y in step["ys"] if text.startswith(y)}
                assert above in kept or (kept == {-1} and forest.parents[above] == -1)


def test_methods_of_rewards_alone_run_on_what_is_left(puzzles, oracle):
    texts, groups, rewards = listed(puzzles)
    forest = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="prune")
    value = rm.ops.up(forest, forest.rewards, how="mean_of_children")
    mixed = (value[forest.roots] > 0) & (value[forest.roots] < 1)
    assert mixed.sum() == 67
    advantage = rm.tree.spo(forest, forest.rewards)
    expected = oracle("tree/spo.py", "spo")(forest.parents.tolist(), forest.leaves.tolist(), forest.rewards)
    np.testing.assert_allclose(advantage, expected, atol=1e-12)
    flat = rm.group.grpo(forest.rewards, forest.rollout_groups)
    solved = rm.Groups(forest.rollout_groups.index).stats(forest.rewards)
    assert ((solved.mean > 0) & (solved.mean < 1)).sum() == 67
    assert (flat != 0).sum() == solved.n[(solved.mean > 0) & (solved.mean < 1)].sum()


def test_records_of_the_search_are_the_same_forest(puzzles):
    texts, groups, rewards = listed(puzzles)
    forest = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="nan")
    again = Forest.from_nested(forest.to_nested(), text="text", missing="prune")
    pruned = Forest.from_prefix_texts(texts, groups=groups, rewards=rewards, missing="prune")
    assert (again.n_nodes, again.n_leaves) == (1388, 500)
    assert sorted(again.labels) == sorted(pruned.labels)
    assert sorted(rm.tree.spo(again, again.rewards)) == sorted(rm.tree.spo(pruned, pruned.rewards))


def drawn(puzzles):
    """The tree of one puzzle with what each step has gained; the puzzle itself is the root's text."""
    (puzzle,) = (p for p in puzzles if p["idx"] == SHOWN)
    texts, _, rewards = listed([puzzle])
    question = puzzle["steps"][0]["x"]
    texts = [question, *(f"{question}\n{text}" for text in texts)]
    forest = Forest.from_prefix_texts(
        texts, groups=[0] * len(texts), rewards=[None, *rewards], add_root=False, missing="prune"
    )
    labels = list(forest.labels)
    for leaf, reward in zip(forest.leaves.tolist(), forest.rewards.tolist(), strict=True):
        labels[leaf] += f" [{reward:.0f}]"
    return forest.to_svg(rm.tree.spo(forest, forest.rewards), labels=labels)


def test_the_picture_of_the_docs(puzzles):
    """``ROLLMATH_WRITE_DOCS=1`` writes it."""
    picture = drawn(puzzles)
    assert len(picture.encode()) < 30_000
    if os.environ.get("ROLLMATH_WRITE_DOCS"):
        PICTURE.write_text(picture)
    assert PICTURE.read_text() == picture
