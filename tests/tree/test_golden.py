"""What the published code of tree methods returned; `tests/conformance/golden/make_trees.py` ran it."""

from __future__ import annotations

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest


@pytest.fixture(scope="module")
def golden(vectors):
    return vectors("trees")


def forests(golden):
    """(forest, rewards, selected) of each case."""
    return [
        (Forest.from_parents(c["parents"], groups=c["groups"], lengths=c["lengths"]), c["rewards"], c["selected"])
        for c in golden["cases"]
    ]


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("tree_rl", "TREE_RL"),
        ("tree_grpo", "TREE_GRPO"),
        ("tree_grpo_difference", None),
        ("treepo", "TREEPO"),
        ("treepo_segment", "TREEPO"),
        ("treepo_spo", "TREEPO"),
    ],
)
def test_the_official_code_has_the_same_numbers(golden, tolerance, name, convention):
    cases, call = forests(golden), getattr(rm.tree, name)
    assert golden[name]
    for record in golden[name]:
        forest, rewards, selected = cases[record["case"]]
        keywords = dict(record["options"])
        if convention is not None:
            keywords["convention"] = getattr(rm.conventions, convention)
        if name == "tree_rl":
            keywords["selected"] = selected
        got = call(forest, rewards, **keywords)
        np.testing.assert_allclose(got, record["out"], **tolerance("float64"), err_msg=str(record["options"]))


def test_entropy(golden):
    for record in golden["arpo_entropy"]:
        options = record["options"]
        got = rm.tree.arpo_entropy([options["logprobs"]], vocab_size=options["vocab_size"])
        assert got.tolist() == pytest.approx(record["out"], abs=1e-12)


def test_the_cases_have_shapes_that_tell_methods_apart(golden):
    made = [forest for forest, *_ in forests(golden)]
    assert any(forest.n_trees > len(forest.groups.counts) for forest in made)
    counts = np.concatenate([forest.siblings.counts[forest.parents[forest.siblings.first] >= 0] for forest in made])
    assert set(counts.tolist()) >= {1, 2, 3}
    for forest in made:
        depth = forest.depth[forest.leaves]
        assert depth.min() < depth.max()
