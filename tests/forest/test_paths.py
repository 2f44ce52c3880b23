"""Forest.from_paths: equal beginnings are the same nodes, and every path owns a leaf."""

from __future__ import annotations

import pickle
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, Ragged

IDS = st.sampled_from([0, 1, "0", "a"])
PATHS = st.lists(st.tuples(st.lists(IDS, max_size=5), st.integers(0, 2)), max_size=25)


@given(PATHS, st.booleans())
def test_against_the_oracle(oracle, data, rooted):
    groups = [g for _, g in data]
    paths = [["root", *p] if rooted else p for p, _ in data]
    if rooted:
        paths = [[p[1] if len(p) > 1 and g else p[0], *p[1:]] for p, g in zip(paths, groups, strict=True)]
    forest = Forest.from_paths(paths, groups=groups, root="first" if rooted else None)
    parents, leaves, labels = oracle("forest.py", "path_forest")(paths, groups, rooted)
    assert forest.parents.tolist() == parents
    assert forest.leaves.tolist() == leaves
    assert list(forest.labels) == labels
    assert forest.rollout_groups == rm.Groups(groups)
    assert forest.order.tolist() == list(range(len(parents)))
    assert forest.lengths is None
    # The labels along a path spell it, less the added root and the leaf of its own.
    for path, leaf in zip(paths, forest.leaves.tolist(), strict=True):
        nodes = oracle("forest.py", "path")(forest.parents, leaf)[0 if rooted else 1 :]
        spelled = [forest.labels[v] for v in nodes]
        assert (spelled[:-1] if spelled and spelled[-1] is None else spelled) == path


@given(PATHS, st.integers(0, 2**32))
def test_lengths_follow_the_elements(oracle, data, seed):
    paths, groups = [p for p, _ in data], [g for _, g in data]
    size = {}
    rng = np.random.default_rng(seed)
    # A length for each distinct beginning, so that paths agree.
    lengths = [
        [size.setdefault((g, *map(repr, p[: n + 1])), int(rng.integers(0, 4))) for n in range(len(p))]
        for p, g in zip(paths, groups, strict=True)
    ]
    forest = Forest.from_paths(paths, groups=groups, lengths=lengths)
    assert forest.expand(np.zeros(forest.n_nodes), per="rollout").lengths.tolist() == [sum(x) for x in lengths]
    assert forest.lengths.sum() == sum(size.values())
    flat = [n for row in lengths for n in row]
    for other in (flat, np.array(flat, np.int32), Ragged.from_lists(lengths)):
        assert Forest.from_paths(paths, groups=groups, lengths=other).lengths.tolist() == forest.lengths.tolist()


def test_the_first_element_is_the_root_without_groups():
    forest = Forest.from_paths(["q1/0/0", "q1/0/1", "q2/0", "q1"], separator="/")
    assert forest.parents.tolist() == [-1, 0, 1, 1, 0, -1, 5]
    assert forest.labels == ("q1", "0", "0", "1", None, "q2", "0")
    assert forest.leaves.tolist() == [2, 3, 6, 4]
    assert forest.groups == rm.Groups(["q1", "q2"])
    assert forest.rollout_groups == rm.Groups(["q1", "q1", "q2", "q1"])


def test_several_trees_a_group():
    # Two sampling trees of one prompt, as their ids name them.
    ids = ["u7-0#0#0", "u7-0#0#1", "u7-1#0", "u8-0#0"]
    forest = Forest.from_paths(ids, separator="#", groups=["u7", "u7", "u7", "u8"], root="first")
    assert forest.groups == rm.Groups(["u7", "u7", "u8"])
    assert forest.labels == ("u7-0", "0", "0", "1", "u7-1", "0", "u8-0", "0")
    assert rm.tree.spo(forest, [1.0, 0.0, 1.0, 0.0]).tolist() == [0, 0, 0.5, -0.5, 0, 0, 0, 0]
    pruned, report = forest.prune([1, 0, 0, 1])
    assert pruned.labels == ("u7-0", "0", "0", "u8-0", "0")
    assert (pruned.groups.ids, report.dropped_trees.tolist()) == (("u7", "u8"), [1])


def test_kinds_of_ids():
    a, b = uuid.UUID(int=1), uuid.UUID(int=2)
    assert Forest.from_paths([[a, b], [a]]).labels == (a, b, None)
    assert Forest.from_paths([(b"x", (1, "y")), (b"x", (1, "z"))]).labels == (b"x", (1, "y"), (1, "z"))
    mixed = Forest.from_paths([["q", np.int64(1)], ["q", 1], ["q", "1"]])
    assert mixed.parents.tolist() == [-1, 0, 1, 1, 0]
    assert Forest.from_paths([]).n_nodes == 0
    assert Forest.from_paths([], groups=[]).labels == ()
    alone = Forest.from_paths([["q"]])
    assert (alone.parents.tolist(), alone.leaves.tolist()) == ([-1, 0], [1])


def test_it_pickles_with_its_labels():
    forest = Forest.from_paths([["q", 1], ["q", 1, 2]], lengths=[[3, 1], [3, 1, 2]])
    again = pickle.loads(pickle.dumps(forest))
    assert (again.labels, again.lengths.tolist(), again.leaves.tolist()) == (("q", 1, None, 2), [3, 1, 0, 2], [2, 3])
    assert forest.expand([0, 1, 2, 3], per="rollout").to_lists() == [[1], [1, 3, 3]]


def test_a_chain_of_a_million_elements():
    n = 1_000_000
    forest = Forest.from_paths([list(range(n)), list(range(n - 1))])
    assert (forest.n_nodes, forest.n_leaves) == (n + 1, 2)
    assert forest.depth.max() == n - 1


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "match"),
    [
        ("q/0", {}, TypeError, r"'paths' must be a list with one path a rollout, got an object of type str"),
        (5, {}, TypeError, r"'paths' must be a list with one path a rollout, got an object of type int"),
        (
            [[1], "q/0"],
            {},
            TypeError,
            r"'paths' must hold lists or tuples of ids, got .* str for path 1; give separator=",
        ),
        (
            [np.array([1, 2])],
            {},
            TypeError,
            r"'paths' must hold lists or tuples .* int64 array for path 0; call .tolist",
        ),
        ([[1], 3], {}, TypeError, r"'paths' must hold lists or tuples of ids, got an object of type int for path 1$"),
        (
            [[1], [2, 0.5]],
            {},
            TypeError,
            r"'paths' must hold strings, ints, UUIDs or tuples, got float at element 1 of path 1",
        ),
        ([[True]], {}, TypeError, r"'paths' must hold strings, ints, UUIDs or tuples, got bool at element 0 of path 0"),
        (
            [[1, None]],
            {},
            TypeError,
            r"'paths' must hold strings, ints, UUIDs or tuples, got NoneType at element 1 of path 0",
        ),
        ([[(1, 2.0)]], {}, TypeError, r"tuples in 'paths' must hold strings, ints or UUIDs, got \(1, 2.0\) at index 0"),
        ([[1], []], {}, ValueError, r"'paths' must begin with a root, got path 1 without elements; give groups= and"),
        ([[1]], {"groups": [1, 2]}, ValueError, r"'groups' must have length 1 \(= the number of paths\), got 2"),
        ([[1]], {"root": "added"}, ValueError, r"'groups' are needed with root='added', which makes one tree of each"),
        ([[1]], {"root": "last"}, ValueError, r"'root' must be one of 'first', 'added', got 'last'"),
        (["a//b"], {"separator": "/"}, ValueError, r"'paths' must not have empty elements, got 'a//b' for path 0"),
        ([""], {"separator": "/"}, ValueError, r"'paths' must not have empty elements, got '' for path 0"),
        ([["a"]], {"separator": "/"}, TypeError, r"'paths' must hold strings where separator= is given, got .* list"),
        (["a"], {"separator": ""}, ValueError, r"'separator' must be a string of at least one character, got ''"),
        (["a"], {"separator": 1}, TypeError, r"'separator' must be a string of at least one character, got 1"),
        ([[1, 2]], {"lengths": [1]}, ValueError, r"'lengths' must have length 2 \(= the number of elements of all pat"),
        ([[1, 2]], {"lengths": [[1], [1]]}, ValueError, r"'lengths' must have one number an element of each path"),
        ([["a"]], {"lengths": [["x"]]}, TypeError, r"'lengths' must hold integers, got <U1"),
        (
            [[1, 2], [3]],
            {"lengths": [[1, 2], 3]},
            TypeError,
            r"'lengths' must be an array of numbers, got an object of",
        ),
        ([[1], ["a"]], {}, TypeError, r"'paths' must begin with ids of one type .*, got int and str; give groups="),
        ([[1, 2]], {"lengths": [1, -1]}, ValueError, r"'lengths' must not be negative, got -1 at element 1 of path 0"),
        ([[1, 2]], {"lengths": [1.0, 2.0]}, TypeError, r"'lengths' must hold integers, got float64"),
        (
            [[1, 2], [1, 2, 3]],
            {"lengths": [[1, 2], [1, 3, 1]]},
            ValueError,
            r"'lengths' must agree where paths have an element in common, got 2 and then 3 at element 1 of path 1",
        ),
    ],
)
def test_wrong_calls(arguments, keywords, error, match):
    with pytest.raises(error, match=rf"^Forest.from_paths\(\): {match}"):
        Forest.from_paths(arguments, **keywords)
