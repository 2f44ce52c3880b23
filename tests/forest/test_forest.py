"""Forest.from_parents: structure, ids, errors, and what a noun owes (immutable, pickles, short repr)."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Forest, Groups

SIZES = st.tuples(st.integers(0, 2**32), st.integers(1, 60))
F1 = [-1, 0, 0, 0, 1, 1, 2, 2, 2]


@given(SIZES)
def test_structure_in_any_id_order(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    forest = Forest.from_parents(parents)
    assert forest.parents.tolist() == parents.tolist()
    assert forest.order.tolist() == oracle("forest.py", "preorder")(parents)
    assert forest.leaves.tolist() == oracle("forest.py", "leaves")(parents)
    assert forest.leaf_counts.tolist() == oracle("forest.py", "leaf_counts")(parents)
    paths = [oracle("forest.py", "path")(parents, v) for v in range(len(parents))]
    assert forest.depth.tolist() == [len(p) - 1 for p in paths]
    roots = np.flatnonzero(parents < 0).tolist()
    assert forest.roots.tolist() == roots
    assert forest.tree.tolist() == [roots.index(p[0]) for p in paths]
    assert (forest.n_nodes, forest.n_leaves, forest.n_trees) == (len(parents), len(forest.leaves), len(roots))


@given(SIZES)
def test_siblings(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    ids = [int(p) if p >= 0 else -1 - v for v, p in enumerate(parents)]
    assert Forest.from_parents(parents).siblings == Groups(ids)


@given(SIZES)
def test_prune_keeps_what_has_a_kept_leaf(oracle, size):
    parents = oracle("forest.py", "random_parents")(*size)
    forest = Forest.from_parents(parents, lengths=np.arange(len(parents)))
    keep = np.random.default_rng(size[0]).random(forest.n_leaves) < 0.5
    pruned, report = forest.prune(keep)
    path = oracle("forest.py", "path")
    kept = sorted({v for leaf in forest.leaves[keep] for v in path(parents, leaf)})
    assert report.kept_nodes.tolist() == kept
    assert sorted([*report.kept_nodes, *report.dropped_nodes]) == list(range(len(parents)))
    assert report.kept_rollouts.tolist() == np.flatnonzero(keep).tolist()
    assert sorted([*report.kept_rollouts, *report.dropped_rollouts]) == list(range(forest.n_leaves))
    above = forest.parents[report.kept_nodes]
    assert [-1 if p < 0 else kept[p] for p in pruned.parents] == above.tolist()
    assert report.kept_nodes[pruned.leaves].tolist() == forest.leaves[keep].tolist()
    assert pruned.lengths.tolist() == kept
    assert pruned.groups.ids == tuple(t for t in range(forest.n_trees) if t not in report.dropped_trees)


@given(SIZES, st.booleans())
def test_a_pruned_forest_pickles(oracle, size, with_offsets):
    parents = oracle("forest.py", "random_parents")(*size)
    rng, n = np.random.default_rng(size[0]), len(parents)
    rows, lengths = rng.integers(0, n, n), rng.integers(0, 3, n)
    # Node v starts at 3 v in whichever row it lies.
    offsets = np.arange(n + 2) * 3 * n if with_offsets else None
    forest = Forest.from_parents(parents, spans=(rows, np.arange(n) * 3, lengths), offsets=offsets)
    for made in (forest, forest.prune(rng.random(forest.n_leaves) < 0.5)[0]):
        again = pickle.loads(pickle.dumps(made))
        expanded = [f.expand(np.arange(f.n_nodes), per="node", include_root=True) for f in (made, again)]
        assert expanded[0].to_lists() == expanded[1].to_lists()
        assert len(expanded[0]) == (n + 1 if with_offsets else max((rows + 1)[lengths > 0], default=0))
        for name in [
            "parents",
            "order",
            "leaves",
            "spans",
            "lengths",
            "tree",
            "groups",
            "rollout_groups",
            "node_trees",
        ]:
            assert np.array_equal(getattr(made, name), getattr(again, name)), name
        if with_offsets:
            assert np.array_equal(made.token_index, again.token_index)


def test_groups_of_trees_and_rollouts():
    forest = Forest.from_parents([-1, -1, 0, 1, 1, -1], groups=["a", "b", "a"])
    assert forest.groups == Groups(["a", "b", "a"])
    assert forest.rollout_groups == Groups(["a", "b", "b", "a"])
    assert forest.node_groups == Groups(["a", "b", "a", "b", "b", "a"])
    assert forest.rollout_trees == Groups([0, 1, 1, 2])
    assert forest.node_trees == Groups([0, 1, 0, 1, 1, 2])
    assert forest.node_trees is forest.node_trees
    assert Forest.from_parents([-1, 0, -1]).groups == Groups([0, 1])
    pruned, report = forest.prune([1, 0, 0, 2])
    assert pruned.groups == Groups(["a", "a"])
    assert report.dropped_trees.tolist() == [1]


def test_empty_and_one_node():
    empty = Forest.from_parents([])
    assert (empty.n_nodes, empty.n_leaves, empty.n_trees, len(empty.rollout_groups)) == (0, 0, 0, 0)
    assert len(empty.node_groups) == len(empty.rollout_trees) == len(empty.node_trees) == 0
    assert repr(empty) == "Forest(0 nodes, 0 rollouts, 0 trees)"
    alone = Forest.from_parents([-1], lengths=[3])
    assert alone.leaves.tolist() == [0]
    assert alone.expand([7], per="rollout").to_lists() == [[]]
    assert alone.expand([7], per="rollout", include_root=True).to_lists() == [[7, 7, 7]]
    assert alone.prune([0])[0].n_nodes == 0


def test_a_chain_of_a_million_nodes():
    n = 1_000_000
    forest = Forest.from_parents(np.arange(-1, n - 1), lengths=np.ones(n, int))
    assert (forest.n_leaves, forest.depth[-1], forest.leaf_counts[0]) == (1, n - 1, 1)
    assert forest.expand(np.arange(n), per="rollout").values.tolist() == list(range(1, n))
    backwards = Forest.from_parents(np.append(np.arange(1, n), -1))
    assert backwards.order[:3].tolist() == [n - 1, n - 2, n - 3]
    assert backwards.prune([1])[0].n_nodes == n


def test_kinds_of_input():
    torch = pytest.importorskip("torch")
    wide = np.repeat(np.array(F1), 2)[::2]
    locked = np.array(F1)
    locked.setflags(write=False)
    kinds = [F1, tuple(F1), wide, locked, np.array(F1, np.int8), np.array(F1, ">i8"), torch.tensor(F1)]
    for parents in kinds:
        assert Forest.from_parents(parents).order.tolist() == [0, 1, 4, 5, 2, 6, 7, 8, 3]


def test_it_is_a_noun():
    spans = ([0, 1, 3, 0, 1, 2, 3, 4, 5], [0, 1, 1, 1, 3, 3, 3, 3, 3], [1, 2, 2, 3, 2, 1, 1, 2, 2])
    forest = Forest.from_parents(F1, spans=spans, offsets=np.arange(7) * 6, groups=["g"])
    assert repr(forest) == "Forest(9 nodes, 6 rollouts, 1 tree, 16 tokens)"
    again = pickle.loads(pickle.dumps(forest))
    for name in ["parents", "order", "leaves", "spans", "token_index"]:
        assert np.array_equal(getattr(forest, name), getattr(again, name))
    assert again.groups == forest.groups
    for name in ["parents", "order", "depth", "leaves", "leaf_counts", "tree", "roots", "lengths", "token_index"]:
        assert getattr(forest, name).dtype == np.int64
        assert not getattr(forest, name).flags.writeable
    with pytest.raises(AttributeError, match="immutable"):
        forest.groups = Groups([0])
    with pytest.raises(TypeError, match=r"Forest\(\): make one with Forest.from_parents"):
        Forest()


@pytest.mark.parametrize(
    ("parents", "keywords", "error", "match"),
    [
        ([-1, 1], {}, ValueError, r"from_parents\(\): 'parents' must not make a node its own parent, got 1 for node 1"),
        ([-1, 2], {}, ValueError, r"must be -1 \(a root\) or a node from 0 to 1, got 2 for node 1"),
        ([-1, -2], {}, ValueError, r"must be -1 \(a root\) or a node from 0 to 1, got -2 for node 1"),
        ([-1, 3, 1, 2], {}, ValueError, r"must not have a cycle, got 1 -> 3 -> 2 -> 1 \(each the child of the next\)"),
        ([-1.0, 0.0], {}, TypeError, r"'parents' must hold integers, got float64"),
        ([True, False], {}, TypeError, r"'parents' must hold integers, got bool"),
        (np.zeros((2, 2), int), {}, TypeError, r"'parents' must be 1-D"),
        (["a"], {}, TypeError, r"'parents' must hold integers"),
        ([-1, 0], {"groups": [1, 2]}, ValueError, r"'groups' must have length 1 \(= the number of roots\), got 2"),
        ([-1, 0], {"lengths": [1]}, ValueError, r"'lengths' must have length 2 \(= len\(parents\)\), got 1"),
        ([-1, 0], {"lengths": [1, -1]}, ValueError, r"'lengths' must be not negative, got -1 for node 1"),
        ([-1, 0], {"lengths": [1.0, 2.0]}, TypeError, r"'lengths' must hold integers"),
        ([-1], {"lengths": [1], "spans": ([0], [0], [1])}, ValueError, r"give either 'lengths' or 'spans'"),
        ([-1], {"spans": [0, 0, 1]}, TypeError, r"'spans' must be a tuple \(rows, starts, lengths\)"),
        ([-1], {"spans": ([0, 1], [0], [1])}, ValueError, r"'spans' must have length 1 \(= len\(parents\)\), got 2"),
        ([-1], {"spans": ([-1], [0], [1])}, ValueError, r"'spans' must not be negative, got row -1 and start 0"),
        (
            [-1, 0],
            {"spans": ([0, 0], [0, 1], [2, 1])},
            ValueError,
            r"must not overlap, got position 1 of row 0 in nodes",
        ),
        ([-1, 0], {"groups": [1.0]}, TypeError, r"from_parents\(\): 'groups' must be strings, ints, UUIDs or tuples"),
        ([-1], {"spans": ([0], [0], [-1])}, ValueError, r"'spans' must be not negative, got length -1 for node 0"),
        ([-1], {"spans": ([0], [2**63 - 1], [1])}, ValueError, r"'spans' must end within int64, got start 9"),
        (
            [-1, 0],
            {"spans": ([0, 1], [0, 0], [2**62, 2**62])},
            ValueError,
            r"'spans' must be at most 9\d+ tokens, got 9",
        ),
        ([-1, 0], {"lengths": [2**62, 2**62]}, ValueError, r"'lengths' must be at most 9\d+ tokens, got 9\d+8"),
        ([-1], {"lengths": [1], "offsets": [0, 1]}, ValueError, r"'offsets' are those of the rows in 'spans'"),
        ([-1], {"spans": ([0], [0], [2]), "offsets": [0, 1]}, ValueError, r"got 2 for node 0 in row 0 of length 1"),
        (
            [-1],
            {"spans": ([1], [0], [1]), "offsets": [0, 1]},
            ValueError,
            r"a row below 1 \(= len\(offsets\) - 1\), got 1",
        ),
        ([-1], {"spans": ([0], [0], [1]), "offsets": [1, 2]}, ValueError, r"'offsets' must start at 0, got 1"),
    ],
)
def test_wrong_calls(parents, keywords, error, match):
    with pytest.raises(error, match=match):
        Forest.from_parents(parents, **keywords)


@pytest.mark.parametrize("row", [3, 10**10, 2**60, 2**63 - 1])
def test_rows_need_no_memory_of_their_own(row):
    text = rf"'spans' must name a row below 3 \(= the number of nodes; give 'offsets' if .*, got {row} for node 1"
    with pytest.raises(ValueError, match=text):
        Forest.from_parents([-1, 0, 0], spans=([0, row, 1], [0, 0, 1], [1, 1, 1]))
    # The row of a node without tokens is not looked at.
    forest = Forest.from_parents([-1, 0, 0], spans=([0, row, 2], [0, 0, 1], [1, 0, 1]))
    assert forest.expand([0, 1, 2], per="node").to_lists() == [[], [], [2]]


def test_devices_without_numbers():
    torch = pytest.importorskip("torch")
    far = torch.zeros(3, dtype=torch.int64, device="meta")
    for name, arguments in [("tokens", (far, None)), ("payload", ([1, 2, 3], far))]:
        text = rf"from_sequences\(\): '{name}' has one number a token and is on meta, but this path .*; call .cpu"
        with pytest.raises(ValueError, match=text):
            Forest.from_sequences(arguments[0], [0, 3], groups=[0], payload=arguments[1])
    forest = Forest.from_parents([-1, 0, 0], lengths=[0, 1, 1])
    for call, text in [
        (lambda: Forest.from_parents(far), "'parents' is on the meta device"),
        (lambda: forest.expand(far, per="node"), "'x' is on the meta device"),
        (lambda: forest.leaf_rewards(far), "'node_values' is on the meta device"),
        (lambda: forest.prune(far), "'keep' is on the meta device"),
    ]:
        with pytest.raises(ValueError, match=text):
            call()


def test_leaf_rewards():
    forest = Forest.from_parents([-1, 0, 0, 1, 1])
    nan = np.nan
    got = forest.leaf_rewards(np.array([nan, nan, 2, 3, 4], np.float32))
    assert (got.dtype, got.tolist()) == (np.float32, [2.0, 3.0, 4.0])
    with pytest.raises(ValueError, match=r"must be NaN at inner nodes, got 1.0 at node 1"):
        forest.leaf_rewards([nan, 1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"a reward at every leaf, got NaN at node 3; take such rollouts out with"):
        forest.leaf_rewards([nan, nan, 2, nan, 4])
    with pytest.raises(ValueError, match=r"'node_values' must have length 5 \(= forest.n_nodes\), got 4"):
        forest.leaf_rewards([nan, 2, 3, 4])


def test_wrong_masks():
    forest = Forest.from_parents(F1)
    with pytest.raises(ValueError, match=r"prune\(\): 'keep' must have length 6 \(= forest.n_leaves\), got 9"):
        forest.prune(np.ones(9, bool))
    with pytest.raises(TypeError, match=r"'keep' must be bool or integer"):
        forest.prune(np.ones(6))
