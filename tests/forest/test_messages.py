"""Forest.from_messages: turns and message graphs; what merges, and where a new tree begins."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest

TOKENS = st.lists(st.integers(0, 1), max_size=2)
#: (extends what was before it, what it adds, response) of each turn.
ROLLOUTS = st.lists(st.lists(st.tuples(st.booleans(), TOKENS, TOKENS), min_size=1, max_size=4), max_size=8)


def turns_of(steps):
    made, seen = [], [7]
    for number, (extends, added, response) in enumerate(steps):
        prompt = seen + added if extends or number == 0 else [8, *added]
        made.append({"prompt": prompt, "response": response})
        seen = prompt + response
    return made


def spelled(forest):
    """Tokens and kinds of each leaf, read through the spans of its nodes, prompt included."""
    tokens = forest.report.tokens
    node = forest.expand(np.arange(forest.n_nodes), per="rollout", include_root=True)
    spans = forest.spans
    column = [n for row in node.to_lists() for v in dict.fromkeys(row) for n in range(row.count(v))]
    at = tokens.offsets[spans.rows[node.values]] + spans.starts[node.values] + np.array(column, int)
    return node, node.with_values(tokens.values[at])


@given(ROLLOUTS, st.booleans())
def test_leaves_are_rows_and_read_back(data, jointly):
    rollouts = [turns_of(steps) for steps in data]
    groups = [len(steps) % 2 for steps in data]
    forest = Forest.from_messages(rollouts, groups=groups, sampled_jointly=jointly)
    rows, tokens = forest.report
    plain = rm.Rows.from_turns(rollouts)
    assert str(rows.report) == str(plain.report) == str(forest.report)
    assert rows.tokens.to_lists() == plain.tokens.to_lists()
    assert tokens.to_lists() == [a + b for a, b in zip(rows.prompts.to_lists(), rows.tokens.to_lists(), strict=True)]
    # One leaf a row, with its positions and the group of its rollout.
    assert forest.n_leaves == rows.n_rows
    assert forest.expand(np.zeros(forest.n_nodes), per="rollout").offsets.tolist() == rows.offsets.tolist()
    assert [forest.rollout_groups.ids[g] for g in forest.rollout_groups.index] == [
        groups[r] for r in rows.rollouts.index
    ]
    node, read = spelled(forest)
    assert read.to_lists() == tokens.to_lists()
    kinds = [[forest.labels[v] for v in row] for row in node.to_lists()]
    mask = np.split(rows.mask, rows.offsets[1:-1]) if rows.n_rows else []
    for prompt, kind, trained in zip(rows.prompts.lengths, kinds, mask, strict=True):
        assert set(kind[:prompt]) == {"prompt"}
        assert [k == "response" for k in kind[prompt:]] == (trained != 0).tolist()
    if not jointly:
        owner = rows.rollouts.index
        for tree in range(forest.n_trees):
            assert len(set(owner[forest.tree[forest.leaves] == tree])) == 1
    again = pickle.loads(pickle.dumps(forest))
    assert again.report.tokens.to_lists() == tokens.to_lists()
    assert again.labels == forest.labels
    assert again.token_index.tolist() == forest.token_index.tolist()


def test_whole_messages_merge():
    ask = {"prompt": [1], "response": [2, 3]}
    on = {"prompt": [1, 2, 3, 4], "response": [5]}
    rollouts = {"a": [ask, on], "b": [ask, on], "c": [{"prompt": [1], "response": [2, 4]}], "d": [ask]}
    forest = Forest.from_messages(rollouts, groups=["g"] * 4)
    assert forest.labels == ("prompt", "response", "observation", "response", None, None, None, "response")
    assert forest.parents.tolist() == [-1, 0, 1, 2, 3, 3, 1, 0]
    assert forest.leaves.tolist() == [4, 5, 7, 6]
    assert forest.lengths.tolist() == [1, 2, 1, 1, 0, 0, 0, 2]
    assert forest.report.rows.rollouts.ids == ("a", "b", "c", "d")
    tokens = forest.report.tokens
    assert tokens.values[forest.token_index].tolist() == [2, 3, 4, 5, 2, 4]
    alone = Forest.from_messages(rollouts, groups=["g"] * 4, sampled_jointly=False)
    assert (alone.n_trees, alone.groups.ids) == (4, ("g",))
    pairs = Forest.from_messages(rollouts, groups=["g"] * 4, sampled_jointly=[0, 0, 1, 1])
    assert pairs.n_trees == 2
    assert pairs.tree[pairs.leaves].tolist() == [0, 0, 1, 1]


@dataclass(frozen=True)
class _Odd:
    """Says that it is hashable and is not."""

    x: list


def test_payloads_and_kinds_keep_messages_apart():
    turn = {"prompt": [1], "response": [2]}
    routed = [[turn | {"payload": {"experts": np.array([e])}}] for e in (0, 1, 0)]
    assert Forest.from_messages(routed, groups=[0] * 3).parents.tolist() == [-1, 0, 1, 1, 0]
    listed = [[turn | {"payload": {"allowed": [e]}}] for e in ({1}, {2}, {1})]
    assert Forest.from_messages(listed, groups=[0] * 3).parents.tolist() == [-1, 0, 1, 1, 0]
    # Equal however they were made: strings and tuples that are one object here and two there, order of keys, layout.
    word, pair, one = "ab", (1, "x"), {"prompt": [1], "response": [2, 3]}
    same = [
        ([word, word], ["".join("ab"), "".join("ab")]),
        ([pair, [pair]], [tuple(iter(pair)), [(1, "x")]]),
        ([{8, 0}, {"a": 1, "b": 2}], [{0, 8}, {"b": 2, "a": 1}]),
        ([math.nan, None], [float("nan"), None]),
        ([np.arange(2), 0], [np.arange(4)[:2], 0]),
        (np.ones((2, 2)), np.asfortranarray(np.ones((2, 2)))),
    ]
    for a, b in same:
        assert Forest.from_messages([[one | {"payload": {"x": x}}] for x in (a, b)], groups=[0] * 2).n_nodes == 4
    differ = [([1, 1], [1.0, 1]), ([1, 1], [True, 1]), (["a", "b"], ["b", "a"]), ([(1, 2), 0], [[1, 2], 0])]
    for a, b in [*differ, (np.zeros(2), np.ones(2)), ([_Odd([1]), 0], [_Odd([1]), 0])]:
        assert Forest.from_messages([[one | {"payload": {"x": x}}] for x in (a, b)], groups=[0] * 2).n_nodes == 3
    # The same tokens, sampled here and given there.
    given_there = [[turn], [{"prompt": [1], "response": []}, {"prompt": [1, 2], "response": [3]}]]
    forest = Forest.from_messages(given_there, groups=[0] * 2)
    assert forest.labels == ("prompt", "response", "observation", "response")
    # Log-probabilities and versions may differ.
    said = [[turn | {"logprobs": [p], "version": v}] for p, v in ((-1.0, 1), (-1.1, 2))]
    assert Forest.from_messages(said, groups=[0] * 2).n_nodes == 4


def node(parent, ids, mask=None, **more):
    return {"parent": parent, "token_ids": ids, "mask": [False] * len(ids) if mask is None else mask} | more


GRAPH = {
    "reward": 1.0,
    "nodes": [
        node(None, [1, 2], message={"role": "system"}),
        node(0, [3]),
        node(1, [9, 4, 5], [False, True, True], logprobs=[-0.5, -0.25]),
        node(2, [6]),
        node(3, [7], [True], logprobs=[-1.0]),
        node(1, [9, 8], [False, True], logprobs=[-2.0]),
        node(None, [1, 5]),
        node(6, [4], None, sampled=True) | {"mask": None, "logprobs": []},
    ],
}


def test_message_graphs():
    forest = Forest.from_messages([GRAPH, {"nodes": GRAPH["nodes"][:3]}], groups=["q", "q"])
    rows = forest.report.rows
    assert forest.parents.tolist() == [-1, 0, 1, 2, 3, 2, 1, -1, 7]
    # Leaves: 4, 5, 7 of the first rollout, 2 of the second, which is a beginning of the first.
    assert forest.leaves.tolist() == [4, 6, 8, 5]
    o, r = "observation", "response"
    assert forest.labels == ("prompt", o, r, o, r, None, r, "prompt", r)
    assert rows.rollouts.index.tolist() == [0, 0, 0, 1]
    assert rows.segment.tolist() == [0, 1, 2, 0]
    assert rows.tokens.to_lists() == [[3, 9, 4, 5, 6, 7], [3, 9, 8], [4], [3, 9, 4, 5]]
    assert rows.prompts.to_lists() == [[1, 2], [1, 2], [1, 5], [1, 2]]
    assert rows.mask.tolist() == [0, 0, 1, 1, 0, 1, *[0, 0, 1], *[1], *[0, 0, 1, 1]]
    nan = np.nan
    np.testing.assert_array_equal(
        rows.logprobs.values, [nan, nan, -0.5, -0.25, nan, -1, nan, nan, -2, nan, nan, nan, -0.5, -0.25]
    )
    assert forest.expand(np.arange(9), per="rollout").to_lists()[1] == [1, 6, 6]
    assert str(forest.report) == (
        "2 rollouts of 5 turns made 4 rows: 2 turns do not extend the one before it\n"
        "  rollout 0, turn 5: position 4 should be 4 (token 1 of the last response), got 8; new row 1 (segment 1)\n"
        "  rollout 0, turn 6: position 1 should be 2 (in the last prompt), got 5; new row 2 (segment 2)"
    )
    without = Forest.from_messages([{"nodes": [node(None, [1]), node(0, [2], [True]), node(1, [3])]}], groups=[0])
    assert without.report.rows.logprobs is None
    assert without.report.rows.mask.tolist() == [1, 0]
    assert Forest.from_messages([GRAPH, GRAPH], groups=[0, 0], sampled_jointly=False).n_trees == 4


def test_masks_that_change_within_a_message():
    marked = [node(None, [1]), node(0, [2, 3, 4, 5], [0, 1, 1, 0]), node(1, [6, 7], [0, 1]), node(2, [8])]
    marked[1]["logprobs"], marked[2]["logprobs"] = [-1.0, -2.0], [-3.0]
    rows = Forest.from_messages([{"nodes": marked}], groups=[0]).report.rows
    assert rows.tokens.to_lists() == [[2, 3, 4, 5, 6, 7, 8]]
    assert rows.mask.tolist() == [0, 1, 1, 0, 0, 1, 0]
    np.testing.assert_array_equal(rows.logprobs.values, [np.nan, -1, -2, np.nan, np.nan, -3, np.nan])


def test_a_graph_that_is_a_long_chain():
    n = 20_000
    nodes = [node(None, [1]), *(node(v, [v % 5], [bool(v % 2)]) for v in range(n - 1))]
    forest = Forest.from_messages([{"nodes": nodes}], groups=[0])
    assert (forest.n_nodes, forest.depth.max()) == (n, n - 1)


def test_a_real_rollout_that_lost_its_reasoning(samples):
    data = json.loads((samples("nemo-gym") / "two_turns_broken_prefix.json").read_text())
    messages = [m for m in data["expected_output_return_token_id_information"]["messages"] if "prompt_token_ids" in m]
    turns = [{"prompt": m["prompt_token_ids"], "response": m["generation_token_ids"]} for m in messages]
    forest = Forest.from_messages([turns], groups=["task"])
    assert (forest.n_trees, forest.n_leaves, forest.groups.ids) == (2, 2, ("task",))
    assert forest.lengths.tolist() == [3088, 495, 3637, 207]
    (found,) = forest.report.rows.report.breaks
    assert (found.position, found.response_position, found.turn) == (found.position, found.position - 3088, 1)
    assert "1 turn does not extend the one before it" in str(forest.report)


def test_nothing_at_all():
    assert Forest.from_messages([], groups=[]).n_nodes == 0
    forest = Forest.from_messages([[{"prompt": [1], "response": []}]], groups=[0])
    assert (forest.parents.tolist(), forest.labels) == ([-1, 0], ("prompt", None))


@pytest.mark.parametrize(
    ("rollouts", "keywords", "error", "match"),
    [
        ("ab", {"groups": [0]}, TypeError, r"'rollouts' must be a list of lists of turns, or a mapping, got"),
        ([[]], {"groups": [0]}, ValueError, r"rollout 0 has no turns; leave it out, with its reward"),
        ([[{"prompt": [1]}]], {"groups": [0]}, ValueError, r"rollouts\[0\]\[0\] has no 'response'; a turn has"),
        (
            [[{"prompt": [1], "response": [2]}]],
            {"groups": [0, 1]},
            ValueError,
            r"'groups' must have length 1 \(= the number of rollouts\), got 2",
        ),
        (
            [[{"prompt": [1], "response": [2]}]],
            {"groups": [0], "sampled_jointly": [1, 2]},
            ValueError,
            r"'sampled_jointly' must have length 1 \(= the number of rollouts\), got 2",
        ),
        (
            [[{"prompt": [1], "response": [2]}], GRAPH],
            {"groups": [0, 0]},
            TypeError,
            r"'rollouts' must all be lists of turns or all mappings with 'nodes', but 1 is a mapping and 0 is not",
        ),
        ([{"turns": []}], {"groups": [0]}, TypeError, r"rollouts\[0\].nodes must be .* NoneType; a rollout is a list"),
        ([{"nodes": []}], {"groups": [0]}, ValueError, r"rollouts\[0\].nodes is empty; leave the rollout out"),
        ([{"nodes": [3]}], {"groups": [0]}, TypeError, r"rollouts\[0\].nodes\[0\] must be a mapping, got .* int"),
        ({"a": {"nodes": [node(0, [1])]}}, {"groups": [0]}, ValueError, r"nodes\[0\].parent must be None, because no"),
        (
            [{"nodes": [node(None, [1]), node(2, [1]), node(1, [1])]}],
            {"groups": [0]},
            ValueError,
            r"rollouts\[0\].nodes\[1\].parent must be a node before it, from 0 to 0, or None, got 2",
        ),
        (
            [{"nodes": [node(None, [1]), node("0", [1])]}],
            {"groups": [0]},
            TypeError,
            r"nodes\[1\].parent must be the number of a node or None, got an object of type str",
        ),
        (
            [{"nodes": [node(None, [])]}],
            {"groups": [0]},
            ValueError,
            r"nodes\[0\].token_ids is empty, so that messages",
        ),
        (
            [{"nodes": [node(None, [1]), node(0, [1, 2], [True])]}],
            {"groups": [0]},
            ValueError,
            r"'rollouts\[0\].nodes\[1\].mask' must have length 2 \(= its token_ids\), got 1",
        ),
        (
            [{"nodes": [node(None, [1]), node(0, [1, 2], [True, False], logprobs=[-1.0, -1.0])]}],
            {"groups": [0]},
            ValueError,
            r"'rollouts\[0\].nodes\[1\].logprobs' must have length 1 \(= the True of its mask\), got 2",
        ),
        ([{"nodes": 3}], {"groups": [0]}, TypeError, r"rollouts\[0\].nodes must be a list of nodes, got .* int$"),
        (
            [{"nodes": [node(None, [1]), {"parent": 0, "token_ids": [1], "sampled": "yes"}]}],
            {"groups": [0]},
            TypeError,
            r"'rollouts\[0\].nodes\[1\].sampled' must be True or False, got 'yes'",
        ),
        (
            [{"nodes": [node(None, [1], [True])]}],
            {"groups": [0]},
            ValueError,
            r"nodes\[0\] is a root, so a prompt that",
        ),
        (GRAPH, {"groups": [0]}, TypeError, r"'rollouts' must be a list of rollouts or .*, got one message graph"),
        (
            [{"nodes": [node(None, [1]), node(0, [1], [True], logprobs=3)]}],
            {"groups": [0]},
            TypeError,
            r"'rollouts\[0\].nodes\[1\].logprobs' must be 1-D",
        ),
    ],
)
def test_wrong_calls(rollouts, keywords, error, match):
    with pytest.raises(error, match=rf"^Forest.from_messages\(\): .*{match}"):
        Forest.from_messages(rollouts, **keywords)
