"""Forest.to_nested and Forest.to_networkx: out and back again."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
ROWS = st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=9), st.integers(0, 2)), max_size=20)


def labelled(parents, seed):
    """A forest with texts as labels, made by records."""
    rng = np.random.default_rng(seed)
    forest = Forest.from_parents(parents)
    rewards = np.where(rng.random(forest.n_leaves) < 0.3, np.nan, rng.normal(size=forest.n_leaves))
    return forest, rewards


@given(SIZES)
def test_nested_records_are_the_forest_in_preorder(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    forest, rewards = labelled(parents, size[0])
    depth = forest.depth.astype(float)
    records = forest.to_nested(rewards, values={"depth": depth, "node": np.arange(forest.n_nodes)})
    again = Forest.from_nested(json.loads(json.dumps(records)), missing="nan")
    place = np.empty(forest.n_nodes, int)
    place[forest.order] = np.arange(forest.n_nodes)
    above = forest.parents[forest.order]
    assert again.parents.tolist() == np.where(above < 0, -1, place[above]).tolist()
    by_node = np.full(forest.n_nodes, np.nan)
    by_node[forest.leaves] = rewards
    np.testing.assert_array_equal(again.rewards, by_node[forest.order][again.leaves])
    # Once in preorder, there and back changes nothing.
    third = Forest.from_nested(again.to_nested(), missing="nan")
    assert third.parents.tolist() == again.parents.tolist()
    np.testing.assert_array_equal(third.rewards, again.rewards)
    todo, seen = list(records), []
    while todo:
        record = todo.pop()
        seen.append(record["node"])
        assert record["depth"] == depth[int(record["node"])]
        todo += record.get("children", [])
    assert sorted(seen) == list(range(forest.n_nodes))


@given(ROWS)
def test_tokens_go_along(data):
    lists, groups = [t for t, _ in data], [g for _, g in data]
    rows = rm.Ragged.from_lists(lists, dtype=np.int64)
    forest = Forest.from_sequences(rows.values, rows.offsets, groups=groups)
    records = forest.to_nested(np.arange(forest.n_leaves), tokens=rows.values)
    again = Forest.from_nested(records, tokens="tokens")
    assert again.parents.tolist() == forest.parents.tolist()
    assert again.lengths.tolist() == forest.lengths.tolist()
    spelled = {}

    def walk(record, before):
        before = before + record["tokens"]
        for child in record.get("children", []):
            walk(child, before)
        if "reward" in record:
            spelled[int(record["reward"])] = before

    for record in records:
        walk(record, [])
    assert [spelled[i] for i in range(len(lists))] == lists


def test_labels_and_names():
    forest = Forest.from_paths([["q", 1], ["q", 1, "x"]])
    assert forest.to_nested([1, 0], reward="score", children="next", text="id") == [
        {"id": "q", "next": [{"id": 1, "next": [{"score": 1.0}, {"id": "x", "score": 0.0}]}]}
    ]
    assert Forest.from_parents([]).to_nested() == []
    kept = Forest.from_nested({"text": "q", "children": [{"text": "a", "reward": 2}]}, text="text")
    assert kept.to_nested() == [{"text": "q", "children": [{"text": "a", "reward": 2.0}]}]


def test_a_chain_of_many_nodes_needs_no_recursion():
    pytest.importorskip("networkx")
    n = 100_000
    forest = Forest.from_parents(np.arange(-1, n - 1))
    (record,) = forest.to_nested([1.0])
    assert Forest.from_nested(record).depth.max() == n - 1
    while "children" in record:
        record = record["children"].pop()
    assert forest.to_networkx().number_of_edges() == n - 1
    assert forest.to_graphviz(max_nodes=n).count("->") == n - 1
    assert forest.to_svg(max_nodes=n).count("<path") == n - 1


@given(SIZES)
def test_networkx_has_every_node_and_edge(oracle, size):
    nx = pytest.importorskip("networkx")
    parents = oracle("forest.py", "random_parents")(*size)
    forest, rewards = labelled(parents, size[0])
    graph = forest.to_networkx(rewards, values={"depth": forest.depth})
    assert sorted(graph.nodes) == list(range(forest.n_nodes))
    assert sorted(graph.edges) == sorted((int(p), v) for v, p in enumerate(parents) if p >= 0)
    assert nx.is_forest(graph) if forest.n_nodes else True
    for rollout, leaf in enumerate(forest.leaves.tolist()):
        assert graph.nodes[leaf]["rollout"] == rollout
        assert graph.nodes[leaf].get("reward", np.nan) == pytest.approx(rewards[rollout], nan_ok=True)
    for v in range(forest.n_nodes):
        assert graph.nodes[v]["depth"] == forest.depth[v]
        assert graph.nodes[v]["tree"] == forest.tree[v]
    assert sum("reward" in a for _, a in graph.nodes(data=True)) == (~np.isnan(rewards)).sum()


def test_networkx_attributes():
    pytest.importorskip("networkx")
    forest = Forest.from_paths([["q", 1], ["q", 1, 2]], lengths=[[3, 1], [3, 1, 2]])
    graph = forest.to_networkx([1, 0])
    assert graph.nodes[0] == {"tree": 0, "group": "q", "label": "q", "length": 3}
    assert graph.nodes[2] == {"tree": 0, "group": "q", "length": 0, "rollout": 0, "reward": 1.0}
    assert list(graph.edges) == [(0, 1), (1, 2), (1, 3)]


def test_without_networkx(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ModuleNotFoundError, match=r"Forest.to_networkx\(\) needs networkx: pip install networkx"):
        Forest.from_parents([-1]).to_networkx()


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (
            lambda f: f.to_nested([1.0]),
            ValueError,
            r"to_nested\(\): 'rewards' must have length 2 \(= forest.n_leaves\)",
        ),
        (lambda f: f.to_nested(values=[1]), TypeError, r"'values' must be a mapping from names to one number a node"),
        (
            lambda f: f.to_nested(values={"a": [1]}),
            ValueError,
            r"values\['a'\].* must have length 3 \(= forest.n_nodes",
        ),
        (lambda f: f.to_nested(reward="text"), ValueError, r"every key must be used once, got 'text' twice"),
        (
            lambda f: f.to_nested(values={"reward": [1] * 3}),
            ValueError,
            r"every key must be used once, got 'reward' tw",
        ),
        (
            lambda f: f.to_nested(tokens=[1]),
            ValueError,
            r"'tokens' need a forest with spans and offsets, as Forest.from",
        ),
        (
            lambda f: f.to_networkx(values={"tree": [0] * 3}),
            ValueError,
            r"'values' must not name an attribute .* 'tree'",
        ),
        (lambda f: f.to_networkx([1]), ValueError, r"to_networkx\(\): 'rewards' must have length 2"),
    ],
)
def test_wrong_calls(call, error, match):
    pytest.importorskip("networkx")
    with pytest.raises(error, match=match):
        call(Forest.from_parents([-1, 0, 0]))


def test_tokens_that_do_not_fit():
    forest = Forest.from_sequences([1, 2], [0, 1, 2], groups=[0, 0])
    with pytest.raises(ValueError, match=r"to_nested\(\): 'tokens' must have length 2 \(= forest's tokens\), got 3"):
        forest.to_nested(tokens=[1, 2, 3])
    with pytest.raises(TypeError, match=r"to_nested\(\): 'tokens' must hold integers, got float64"):
        forest.to_nested(tokens=[1.0, 2.0])
