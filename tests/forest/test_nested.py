"""Forest.from_nested: records of tree searches; and real trees."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

import rollmath as rm
from rollmath import Forest

TREE = {
    "tokens": [9],
    "children": [{"tokens": [1, 2], "reward": 1}, {"tokens": [3], "children": [{"tokens": [], "reward": 0.5}]}],
}


def test_nodes_in_preorder():
    forest = Forest.from_nested([TREE, TREE], tokens="tokens", groups=["a", "a"])
    assert forest.parents.tolist() == [-1, 0, 0, 2, -1, 4, 4, 6]
    assert forest.rewards.tolist() == [1.0, 0.5, 1.0, 0.5]
    assert forest.lengths.tolist() == [1, 2, 1, 0] * 2
    assert forest.groups == rm.Groups(["a", "a"])
    assert Forest.from_nested(TREE).lengths is None
    assert Forest.from_nested([]).n_nodes == 0
    assert Forest.from_nested({"reward": 1}).parents.tolist() == [-1]
    again = pickle.loads(pickle.dumps(forest))
    assert again.rewards.tolist() == forest.rewards.tolist()
    pruned, _ = forest.prune([0, 1, 1, 0])
    assert pruned.rewards.tolist() == [0.5, 1.0]


def test_other_names_and_number_types():
    records = ({"next": ({"score": np.float32(0.25)}, {"score": True, "next": None})},)
    forest = Forest.from_nested(records, children="next", reward="score")
    assert forest.rewards.tolist() == [0.25, 1.0]


def test_rewards_of_inner_nodes_may_be_nan():
    record = {"reward": float("nan"), "children": [{"reward": np.float32("nan"), "children": [{"reward": 2}]}]}
    assert Forest.from_nested(record).rewards.tolist() == [2.0]


def test_texts_become_labels():
    records = {"text": "q", "children": [{"text": "a", "reward": 1}, {"reward": 0}]}
    forest = Forest.from_nested(records, text="text")
    assert forest.labels == ("q", "a", None)
    assert Forest.from_nested(records).labels is None
    assert pickle.loads(pickle.dumps(forest)).labels == forest.labels
    assert forest.prune([0, 1])[0].labels == ("q", None)


def test_leaves_without_rewards():
    records = [
        {"text": "r", "children": [{"text": "a"}, {"children": [{"reward": 1}, {"reward": None}, {"reward": np.nan}]}]},
        {"children": [{}]},
    ]
    whole = Forest.from_nested(records, text="text", missing="nan")
    assert np.isnan(whole.rewards).tolist() == [True, False, True, True, True]
    assert whole.report is None
    forest = Forest.from_nested(records, text="text", groups=["p", "q"], missing="prune")
    assert (forest.parents.tolist(), forest.rewards.tolist()) == ([-1, 0, 1], [1.0])
    assert (forest.labels, forest.groups.ids) == (("r", None, None), ("p",))
    assert forest.report.kept_nodes.tolist() == [0, 2, 3]
    assert forest.report.dropped_rollouts.tolist() == [0, 2, 3, 4]
    assert str(forest.report) == "kept 1 of 5 rollouts and 3 of 8 nodes; dropped trees: 1"
    again = pickle.loads(pickle.dumps(forest))
    assert again.report.dropped_trees.tolist() == [1]
    # The same by hand.
    by_hand, report = whole.prune(~np.isnan(whole.rewards))
    assert by_hand.parents.tolist() == forest.parents.tolist()
    assert report.dropped_nodes.tolist() == forest.report.dropped_nodes.tolist()
    with pytest.raises(
        ValueError, match=r"'reward' is missing at leaf .*; leave the record out, give it a reward, or ch"
    ):
        Forest.from_nested(records)


def test_deep_records():
    record = {"reward": 1.0}
    for _ in range(50_000):
        record = {"children": [record]}
    assert Forest.from_nested(record).depth.max() == 50_000
    while "children" in record:
        record = record["children"].pop()


def test_a_record_may_appear_twice_but_not_below_itself():
    leaf = {"reward": 1}
    assert Forest.from_nested({"children": [leaf, leaf]}).n_leaves == 2
    loop: dict = {"children": [{"reward": 0}]}
    loop["children"].append({"children": [loop]})
    with pytest.raises(ValueError, match=r"must not contain themselves, but records\[0\].children\[1\].children\[0\]"):
        Forest.from_nested(loop)


@pytest.mark.parametrize(
    ("records", "error", "match"),
    [
        ([{}], ValueError, r"'reward' is missing at leaf records\[0\]; leave the record out"),
        ([TREE, {"children": [{}]}], ValueError, r"'reward' is missing at leaf records\[1\].children\[0\]"),
        (
            {"reward": 1, "children": [{"reward": 1}]},
            ValueError,
            r"belongs to leaves, got 1 at inner node records\[0\]",
        ),
        (
            {"children": [{"reward": "1"}]},
            TypeError,
            r"'reward' must be a number, got str at records\[0\].children\[0\]",
        ),
        (
            {"children": [{"reward": 1}, {"reward": np.nan}]},
            ValueError,
            r"'reward' is NaN at leaf records\[0\].children\[1\]; leave the record out",
        ),
        ({"reward": -np.inf}, ValueError, r"'reward' must be finite, got -inf at records\[0\]"),
        ({"children": [3]}, TypeError, r"'records' must hold mappings, got int at records\[0\].children\[0\]"),
        ({"children": "abc"}, TypeError, r"'children' must be lists of records, got str at records\[0\].children"),
        ({"children": {"a": {}}}, TypeError, r"'children' must be lists of records, got dict"),
        (5, TypeError, r"from_nested\(\): 'records' must be a mapping or a list of mappings, got int"),
    ],
)
def test_wrong_records(records, error, match):
    with pytest.raises(error, match=match):
        Forest.from_nested(records)


def test_wrong_tokens_and_groups():
    with pytest.raises(ValueError, match=r"'t' is missing at records\[0\].children\[0\]; only roots may lack it"):
        Forest.from_nested({"children": [{"reward": 1}]}, tokens="t")
    with pytest.raises(TypeError, match=r"'t' must be lists of tokens, got str at records\[0\]"):
        Forest.from_nested({"reward": 1, "t": "ab"}, tokens="t")
    with pytest.raises(TypeError, match=r"'t' must be lists of tokens, got ndarray at records\[0\]"):
        Forest.from_nested({"reward": 1, "t": np.array(3)}, tokens="t")
    with pytest.raises(TypeError, match=r"'x' must be a string, got int at records\[0\].children\[0\]"):
        Forest.from_nested({"children": [{"reward": 1, "x": 3}]}, text="x")
    with pytest.raises(
        ValueError, match=r"from_nested\(\): 'missing' must be one of 'raise', 'prune', 'nan', got 'drop'"
    ):
        Forest.from_nested(TREE, missing="drop")
    with pytest.raises(ValueError, match=r"from_nested\(\): 'groups' must have length 1 \(= the number of roots\)"):
        Forest.from_nested(TREE, groups=[1, 2])


def puzzle_nodes(puzzle):
    """Parents of a search tree, and which nodes its last step kept; a child's text starts with its parent's."""
    parents, depth = [-1], {0: {"": 0}}
    for level, step in enumerate(puzzle["steps"], start=1):
        above, depth[level] = depth[level - 1], {}
        for text in step["new_ys"]:
            parent = next(above[y] for y in step["ys"] if text.startswith(y))
            depth[level].setdefault(text, len(parents))
            parents.append(parent)
    last = depth[len(puzzle["steps"])]
    return parents, {last[y]: info["r"] for y, info in zip(puzzle["ys"], puzzle["infos"], strict=True)}


def test_real_search_trees(samples, oracle):
    puzzles = json.loads((samples("game24-trees") / "trees.json").read_text())
    parents, rewarded, base = [], {}, 0
    for puzzle in puzzles:
        own, rewards = puzzle_nodes(puzzle)
        parents += [p if p < 0 else base + p for p in own]
        rewarded |= {base + v: r for v, r in rewards.items()}
        base += len(own)
    node_values = np.full(base, np.nan)
    node_values[list(rewarded)] = list(rewarded.values())

    forest = Forest.from_parents(parents)
    assert forest.n_trees == len(puzzles) == 100
    with pytest.raises(ValueError, match=r"got NaN at node"):
        forest.leaf_rewards(node_values)
    pruned, report = forest.prune(~np.isnan(node_values[forest.leaves]))
    rewards = pruned.leaf_rewards(node_values[report.kept_nodes])
    assert len(rewards) == len(rewarded)
    value = rm.ops.up(pruned, rewards, how="mean_of_children")
    advantage = rm.tree.spo(pruned, rewards)
    expected = oracle("tree/spo.py", "spo")
    for tree in range(0, 100, 9):
        nodes = np.flatnonzero(pruned.tree == tree)
        local = [-1 if p < 0 else int(np.searchsorted(nodes, p)) for p in pruned.parents[nodes]]
        leaves = [int(np.searchsorted(nodes, v)) for v in pruned.leaves if pruned.tree[v] == tree]
        below = [float(node_values[report.kept_nodes][nodes[v]]) for v in leaves]
        np.testing.assert_allclose(advantage[nodes], expected(local, leaves, below), atol=1e-12)
    mixed = (value[pruned.roots] > 0) & (value[pruned.roots] < 1)
    assert mixed.sum() == 67


def test_a_reward_past_float64_is_named():
    with pytest.raises(ValueError, match=r"Forest.from_nested\(\): 'reward' must fit float64, got a larger integer at"):
        Forest.from_nested({"children": [{"reward": 10**400}]})
