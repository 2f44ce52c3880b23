"""Forest.from_prefix_texts: a child's text begins with its parent's."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest

TEXTS = st.lists(st.tuples(st.text("ab", max_size=5), st.integers(0, 2)), max_size=25)


@given(TEXTS)
def test_against_the_oracle(oracle, data):
    texts, groups = [t for t, _ in data], [g for _, g in data]
    forest = Forest.from_prefix_texts(texts, groups=groups)
    first = list(dict.fromkeys(zip(texts, groups, strict=True)))
    expected = oracle("forest.py", "prefix_parents")([t for t, _ in first], [g for _, g in first])
    node = forest.report.nodes
    assert node.tolist() == [first.index(x) for x in zip(texts, groups, strict=True)]
    added = forest.n_nodes - len(first)
    assert added == forest.report.added_roots == len(set(groups) - {g for t, g in first if not t})
    for v, (text, group) in enumerate(first):
        if expected[v] >= 0:
            assert forest.parents[v] == expected[v]
        else:
            assert forest.parents[v] == -1 if text == "" else forest.labels[forest.parents[v]] == ""
        nodes = oracle("forest.py", "path")(forest.parents, v)
        assert "".join(forest.labels[u] for u in nodes) == text
        assert forest.groups.ids[forest.groups.index[forest.tree[v]]] == group
    assert forest.n_trees == len(set(groups))
    assert forest.report.merged == len(texts) - len(first)


def test_rewards_and_branches_without():
    texts = ["a", "ab", "ac", "acd", "b", "ab"]
    rewards = [None, 1, None, 0.5, None, float("nan")]
    for given_rewards in (rewards, np.array([np.nan if r is None else r for r in rewards], np.float32)):
        whole = Forest.from_prefix_texts(texts, groups=["q"] * 6, rewards=given_rewards, missing="nan")
        assert whole.parents.tolist() == [5, 0, 0, 2, 5, -1]
        assert np.isnan(whole.rewards).tolist() == [False, False, True]
        made = Forest.from_prefix_texts(texts, groups=["q"] * 6, rewards=given_rewards, missing="prune")
        assert made.parents.tolist() == [4, 0, 0, 2, -1]
        assert (made.rewards.tolist(), made.labels) == ([1.0, 0.5], ("a", "b", "c", "d", ""))
        assert made.report.nodes.tolist() == [0, 1, 2, 3, -1, 1]
        assert made.report.pruned.dropped_nodes.tolist() == [4]
    assert str(made.report) == (
        "6 texts made 6 nodes; equal to an earlier text: 1, added roots: 1\n"
        "kept 2 of 3 rollouts and 5 of 6 nodes; dropped trees: 0"
    )
    again = pickle.loads(pickle.dumps(made))
    assert str(again.report) == str(made.report)
    assert again.labels == made.labels
    assert rm.tree.spo(made, made.rewards).tolist() == [0.0, 0.25, -0.25, 0.0, 0.0]


def test_a_tree_without_any_reward_goes():
    made = Forest.from_prefix_texts(["a", "b"], groups=["p", "q"], rewards=[None, 1], missing="prune")
    assert (made.groups.ids, made.n_nodes, made.report.nodes.tolist()) == (("q",), 2, [-1, 0])
    assert made.report.pruned.dropped_trees.tolist() == [0]


def test_roots_of_ones_own():
    made = Forest.from_prefix_texts(["q: 1", "q: ", "r"], groups=["a", "a", "b"], add_root=False)
    assert (made.parents.tolist(), made.labels) == ([1, -1, -1], ("1", "q: ", "r"))
    assert made.groups == rm.Groups(["a", "b"])
    assert made.report.added_roots == 0
    assert Forest.from_prefix_texts([], groups=[]).n_nodes == 0
    assert Forest.from_prefix_texts([], groups=[], rewards=[], missing="prune").n_nodes == 0


def test_many_groups_take_linear_time():
    n = 30_000
    texts = [text for g in range(n) for text in (f"{g}a", f"{g}ab")]
    forest = Forest.from_prefix_texts(texts, groups=[g for g in range(n) for _ in range(2)])
    assert (forest.n_trees, forest.groups.ids) == (n, tuple(range(n)))


def test_a_chain_of_many_texts():
    n = 3000
    forest = Forest.from_prefix_texts(["x" * k for k in range(n)], groups=[0] * n, rewards=[None] * (n - 1) + [1])
    assert (forest.depth.max(), forest.n_leaves, forest.report.added_roots) == (n - 1, 1, 0)


@pytest.mark.parametrize(
    ("texts", "keywords", "error", "match"),
    [
        ("ab", {"groups": [0]}, TypeError, r"'texts' must be a list of strings, got an object of type str"),
        (["a", 1], {"groups": [0, 0]}, TypeError, r"'texts' must hold strings, got int at index 1"),
        (["a"], {"groups": [0, 1]}, ValueError, r"'groups' must have length 1 \(= len\(texts\)\), got 2"),
        (["a"], {"groups": [0], "rewards": [1, 2]}, ValueError, r"'rewards' must have length 1 \(= len\(texts\)\)"),
        (["a"], {"groups": [0], "rewards": ["1"]}, TypeError, r"'rewards' must hold floats, ints or bools, got <U1"),
        (["a"], {"groups": [0], "rewards": [np.inf]}, ValueError, r"'rewards' must be finite, or NaN or None .* inf"),
        (["a"], {"groups": [0], "missing": "prune"}, ValueError, r"missing='prune' says what leaves .* no 'rewards'"),
        (["a"], {"groups": [0], "missing": "nan"}, ValueError, r"missing='nan' says what leaves .* no 'rewards'"),
        (["a"], {"groups": [0], "add_root": 1}, TypeError, r"'add_root' must be True or False, got 1"),
        (["a"], {"groups": [0], "missing": "drop"}, ValueError, r"'missing' must be one of 'raise', 'prune', 'nan'"),
        (
            ["a", "ab", "ac"],
            {"groups": [0] * 3, "rewards": [1, 0, 0]},
            ValueError,
            r"'rewards' belong to leaves, got 1.0 for texts\[0\], which texts\[1\] extends",
        ),
        (
            ["a", "b", "b"],
            {"groups": [0] * 3, "rewards": [1, 0, 1]},
            ValueError,
            r"'rewards' must agree for equal texts, got 0.0 and then 1.0 at index 2",
        ),
        (
            ["a", "b"],
            {"groups": [0] * 2, "rewards": [1, None]},
            ValueError,
            r"'rewards' must have a number for every leaf, got none for texts\[1\]; leave it out, give it a reward, or",
        ),
        (
            ["a", "b"],
            {"groups": ["q"] * 2, "add_root": False},
            ValueError,
            r"'texts' must have one root a group, got texts\[0\] and texts\[1\], and neither begins with the other",
        ),
    ],
)
def test_wrong_calls(texts, keywords, error, match):
    with pytest.raises(error, match=rf"^Forest.from_prefix_texts\(\): {match}"):
        Forest.from_prefix_texts(texts, **keywords)
