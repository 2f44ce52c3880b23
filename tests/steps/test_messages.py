"""Steps.from_messages: what is a step, what makes two of them the same, and what does not."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps


def said(text=None, *calls, **more):
    """An assistant message; a call is (id, name, arguments)."""
    made = {"role": "assistant", "content": text, **more}
    if calls:
        made["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in calls
        ]
    return made


def user(text):
    return {"role": "user", "content": text}


def tool(call, text):
    return {"role": "tool", "tool_call_id": call, "content": text}


ONE = [
    {"role": "system", "content": "rules"},
    user("find the key"),
    said(None, ("x1", "look", '{"where": "hall", "n": 1}')),
    tool("x1", "nothing"),
    said("Nothing here.", ("x2", "look", '{"where": "yard", "n": 1}')),
    tool("x2", "a key"),
    said("I have it."),
    user("thanks"),
]
TWO = [
    {"role": "system", "content": "rules"},
    user("find the key"),
    said("", ("y7", "look", '{"n":1,"where":"hall"}')),
    tool("y7", "nothing"),
    said("Hm.", ("y8", "look", {"where": "yard", "n": 1})),
    tool("y8", "a key"),
    said("I have it."),
]


def same(steps, by):
    return steps.groups(by=by).index.tolist()


def test_one_step_an_assistant_message():
    steps = Steps.from_messages([ONE, TWO, [user("hi")]], groups=["t", "t", "u"])
    assert steps.lengths.tolist() == [3, 3, 0]
    assert steps.trajectory_ids == (0, 1, 2)
    assert same(steps, "state") == [0, 1, 2, 0, 1, 2]
    assert same(steps, "action") == [0, 1, 2, 0, 3, 2]
    report = steps.report
    assert report.message_index.tolist() == [2, 4, 6, 2, 4, 6]
    assert report.actions[1] is ONE[4]
    assert report.observations[3] == TWO[:2]
    assert report.final == ([ONE[7]], [], [user("hi")])
    assert str(report) == "3 conversations made 6 steps; 2 end with messages after the last assistant message"
    # The last row of the first conversation goes on to what the user said; that of the second ends.
    assert steps.next_index[2] >= 0
    assert steps.next_index[5] == -1
    assert steps.next_index[[0, 1, 3, 4]].tolist() == steps.state_index[[1, 2, 4, 5]].tolist()
    assert pickle.loads(pickle.dumps(steps)).report.message_index.tolist() == report.message_index.tolist()


def test_the_end_does_not_count_where_it_is_not_asked_for():
    ends = Steps.from_messages([ONE, TWO], groups=[0, 0], final="end")
    assert ends.next_index[[2, 5]].tolist() == [-1, -1]
    assert ends.merge().groups.index[2] == ends.merge().groups.index[5]
    assert ends.n_states == 3
    states = Steps.from_messages([ONE, TWO], groups=[0, 0])
    assert states.merge().groups.index[2] != states.merge().groups.index[5]
    assert states.n_states == 4


def test_histories_and_calls_alone():
    history = Steps.from_messages([ONE, TWO], groups=[0, 0], state="history")
    assert same(history, "state") == [0, 1, 2, 0, 1, 3]  # the second turns say something else beside the same call
    calls = Steps.from_messages([ONE, TWO], groups=[0, 0], action="tool_calls")
    assert same(calls, "action") == [0, 1, 2, 0, 1, 2]
    assert same(Steps.from_messages([ONE, ONE], groups=[0, 0], state="history"), "state") == [0, 1, 2] * 2
    # A retry sees the same result, but has another history.
    again = [user("q"), said("a"), user("no"), said("a"), user("no"), said("a")]
    assert same(Steps.from_messages([again], groups=[0]), "state") == [0, 1, 1]
    assert same(Steps.from_messages([again], groups=[0], state="history"), "state") == [0, 1, 2]


def test_functions_make_keys():
    seen = []

    def state(before):
        seen.append(len(before))
        return len(before)

    steps = Steps.from_messages([ONE, TWO], groups=[0, 0], state=state, action=lambda m: len(m.get("tool_calls", "")))
    assert seen == [2, 4, 6, 8, 2, 4, 6]
    assert same(steps, "state") == [0, 1, 2, 0, 1, 2]
    assert steps.n_states == 4
    # What comes after the last assistant message is not asked for if it does not count.
    seen.clear()
    assert Steps.from_messages([ONE], groups=[0], state=state, final="end").n_states == 3
    assert seen == [2, 4, 6]
    # Messages need not be JSON for functions.
    odd = [user({1, 2}), said({3})]
    assert len(Steps.from_messages([odd], groups=[0], state=len, action=lambda m: len(m["content"]))) == 1


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (said("x"), said("x", reasoning_content="hm", id="m1", annotations=[]), True),
        (said("x"), said("x", refusal="no"), False),
        (said("x"), said("x "), False),
        (said(None), said(""), True),
        (said([]), said(None), True),
        (said("x"), said([{"type": "text", "text": "x"}]), False),
        (said(None, ("1", "f", "{}")), said(None, ("2", "f", " { } ")), True),
        (said(None, ("1", "f", "{}")), said(None, ("1", "g", "{}")), False),
        (said(None, ("1", "f", '{"a": 1}')), said(None, ("1", "f", '{"a": 1.0}')), False),
        (said(None, ("1", "f", "not json")), said(None, ("1", "f", "not  json")), False),
        (said(None, ("1", "f", '"x"')), said(None, ("1", "f", "x")), False),
        (said(None, ("1", "f", "[" * 100_000)), said(None, ("2", "f", "[" * 100_000)), True),
        (said(None, ("1", "f", ""), ("2", "f", "")), said(None, ("2", "f", None), ("1", "f", None)), True),
        (said(None, ("1", "f", "{}")), said(None, ("1", "f", "")), True),
        (said(None, ("1", "f", {})), said(None, ("1", "f", None)), True),
        (said(None, ("1", "f", "{}"), ("2", "g", "{}")), said(None, ("1", "g", "{}"), ("2", "f", "{}")), False),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "index": 0, "name": "f", "arguments": {"a": 1}}]},
            {"role": "assistant", "tool_calls": [{"name": "f", "arguments": '{"a":1}'}]},
            True,
        ),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": '{"a": [1]}'}},
            {"role": "assistant", "function_call": {"name": "f", "arguments": '{"a":[1]}'}, "tool_calls": None},
            True,
        ),
        (said("\ud800"), said("\ud801"), False),
    ],
)
def test_which_actions_are_equal(a, b, equal):
    steps = Steps.from_messages([[user("q"), a], [user("q"), b]], groups=[0, 0])
    assert (steps.action_index[0] == steps.action_index[1]) == equal


def test_results_name_their_call_by_place():
    asked = [("1", "f", '{"a": 1}'), ("2", "f", '{"a": 2}')]
    other = [("8", "f", '{"a": 1}'), ("9", "f", '{"a": 2}')]
    base = [user("q"), said(None, *asked), tool("1", "one"), tool("2", "two"), said("done")]
    renamed = [user("q"), said(None, *other), tool("8", "one"), tool("9", "two"), said("done")]
    crossed = [user("q"), said(None, *other), tool("9", "one"), tool("8", "two"), said("done")]
    unknown = [user("q"), said(None, *other), tool("5", "one"), tool("6", "two"), said("done")]
    for state in ("observation", "history"):
        steps = Steps.from_messages([base, renamed, crossed, unknown], groups=[0] * 4, state=state)
        assert same(steps, "state")[1::2] == [1, 1, 2, 3]


def test_fields_that_do_not_count():
    a = [user("q") | {"at": 1}, said("x"), {"role": "tool", "content": "r", "id": "77"}, said("y")]
    b = [user("q") | {"at": 2}, said("x"), {"role": "tool", "content": "r"}, said("y")]
    assert same(Steps.from_messages([a, b], groups=[0, 0]), "state") == [0, 1, 2, 1]
    for ignore in (["at"], {"at"}, np.array(["at", "on"])):
        assert same(Steps.from_messages([a, b], groups=[0, 0], ignore=ignore), "state") == [0, 1, 0, 1]
    shout = [[user("q"), said("x")], [user("q"), said("y")]]
    # Names of users, but not those of functions.
    named = [
        [user("q") | {"name": n}, said(None, ("1", f, "{}"))] for n, f in (("Ann", "f"), ("Bob", "f"), ("Bob", "g"))
    ]
    apart = Steps.from_messages(named, groups=[0] * 3, ignore=["name"])
    assert (same(apart, "state"), same(apart, "action")) == ([0, 0, 0], [0, 0, 1])
    # Which call a result answers.
    asked = ("1", "f", '{"a": 1}'), ("2", "f", '{"a": 2}')
    crossed = [[user("q"), said(None, *asked), tool(i, "ok"), said("x")] for i in ("1", "2")]
    assert same(Steps.from_messages(crossed, groups=[0, 0]), "state") == [0, 1, 0, 2]
    assert same(Steps.from_messages(crossed, groups=[0, 0], ignore=["tool_call_id"]), "state") == [0, 1, 0, 1]
    assert same(Steps.from_messages(shout, groups=[0, 0], ignore=("content",)), "action") == [0, 0]
    # Roles and names count.
    who = [[{"role": r, "content": "q"}, said("x")] for r in ("user", "tool", "user")]
    who.append([{"role": "user", "content": "q", "name": "Ann"}, said("x")])
    assert same(Steps.from_messages(who, groups=[0] * 4), "state") == [0, 1, 0, 2]


def test_tasks_stay_apart_and_nothing_is_changed():
    before = json.dumps([ONE, TWO])
    steps = Steps.from_messages([ONE, ONE], groups=["a", "b"])
    assert json.dumps([ONE, TWO]) == before
    assert steps.n_states == 8
    assert (steps.merge().visits == 1).all()


def test_some_trajectories():
    steps = Steps.from_messages([ONE, [user("hi")], TWO], groups=["t", "u", "t"])
    some = steps.take([False, True, True])
    assert some.report.message_index.tolist() == [2, 4, 6]
    assert not some.report.message_index.flags.writeable
    assert some.report.actions == steps.report.actions[3:]
    assert some.report.observations == steps.report.observations[3:]
    assert some.report.final == ([user("hi")], [])
    assert str(some.report) == "2 conversations made 3 steps; 1 end with messages after the last assistant message"
    assert Steps.from_lengths([1], ["a"], groups=[0]).take([True]).report is None


def test_columns_of_tables():
    column = np.empty(2, dtype=object)
    column[:] = [ONE, TWO]
    expected = Steps.from_messages([ONE, TWO], groups=[0, 0])
    for talks in (column, iter([ONE, TWO]), (tuple(ONE), tuple(TWO))):
        assert same(Steps.from_messages(talks, groups=[0, 0]), "transition") == same(expected, "transition")


def test_nothing_at_all():
    steps = Steps.from_messages([], groups=[])
    assert (len(steps), steps.n_trajectories) == (0, 0)
    assert str(steps.report) == "0 conversations made 0 steps; 0 end with messages after the last assistant message"
    assert len(Steps.from_messages([[]], groups=[0])) == 0
    # Nothing is seen before the first message, nor between two messages of the assistant.
    alone = [said("a"), said("b"), said("c")]
    assert same(Steps.from_messages([alone], groups=[0]), "state") == [0, 0, 0]
    assert same(Steps.from_messages([alone, alone], groups=[0, 0], state="history"), "state") == [0, 1, 2] * 2
    assert Steps.from_lengths([1], ["a"], groups=[0]).report is None


#: Conversations as (what was seen, what was said) with few texts.
WORD = st.sampled_from("ab")
TALKS = st.lists(st.tuples(st.lists(st.tuples(st.lists(WORD, max_size=2), WORD)), st.lists(WORD, max_size=1)))


@given(TALKS, st.integers(0, 2**32), st.booleans(), st.booleans())
def test_keys_are_those_of_plain_dictionaries(talks, seed, history, ends):
    rng = np.random.default_rng(seed)
    groups = rng.integers(2, size=len(talks))
    conversations, states, actions, nexts = [], [], [], []
    for task, (turns, trailing) in zip(groups.tolist(), talks, strict=True):
        messages, before, keys = [], (), []
        for seen, text in turns:
            messages += [*map(user, seen), said(None, (str(rng.integers(99)), "f", text))]
            keys.append((task, before if history else None, tuple(seen)))
            actions.append((task, text))
            before += (tuple(seen), text)
        conversations.append(messages + list(map(user, trailing)))
        states += keys
        last = (task, before if history else None, tuple(trailing)) if trailing and not ends else None
        nexts += [*keys[1:], last] if keys else []
    steps = Steps.from_messages(
        conversations,
        groups=groups,
        state="history" if history else "observation",
        final="end" if ends else "state",
    )
    n = len(states)
    assert len(steps) == n
    for column, expected in ((steps.state_index, states), (steps.action_index, actions), (steps.next_index, nexts)):
        for i in range(n):
            for j in range(i):
                assert (column[i] == column[j]) == (expected[i] == expected[j])
    for i in range(n):
        assert (steps.next_index[i] == -1) == (nexts[i] is None)
        for j in range(n):
            assert (steps.next_index[i] == steps.state_index[j]) == (nexts[i] == states[j])


@pytest.mark.parametrize(
    ("conversations", "keywords", "error", "match"),
    [
        ("ab", {}, TypeError, r"'conversations' must be a list with one list of messages a trajectory, got .* str"),
        ({"a": []}, {}, TypeError, r"'conversations' must be a list with one list of messages a trajectory, got"),
        ([user("a")], {}, TypeError, r"conversations\[0\] must be a list of messages, got .* dict"),
        ([[user("a"), "b"]], {}, TypeError, r"conversations\[0\]\[1\] must be a message .*'role'\), got .*model_dump"),
        ([[{"from": "x"}]], {}, TypeError, r"conversations\[0\]\[0\] must have a 'role' that is a string, got .*None"),
        (
            [[said("a") | {"tool_calls": "f"}]],
            {},
            TypeError,
            r"conversations\[0\]\[0\]\['tool_calls'\] must be a list of mappings, got .* str",
        ),
        (
            [[said("a") | {"tool_calls": [3]}]],
            {},
            TypeError,
            r"conversations\[0\]\[0\]\['tool_calls'\]\[0\] must be a mapping, got .* int",
        ),
        (
            [[said("a") | {"function_call": "f"}]],
            {},
            TypeError,
            r"conversations\[0\]\[0\]\['function_call'\] must be a mapping, got .* str",
        ),
        ([[tool([1], "a")]], {}, TypeError, r"conversations\[0\]\[0\]\['tool_call_id'\] must be a string, got .* list"),
        (
            [[user("a"), said("a"), user("b"), user({1, 2}), said("a")]],
            {},
            TypeError,
            r"conversations\[0\]\[3\] must hold what JSON can hold, but: .* set",
        ),
        (
            [[user("a"), said({1, 2})]],
            {},
            TypeError,
            r"conversations\[0\]\[1\] must hold what JSON can hold, but: .* set",
        ),
        ([[user("a"), said("a")]], {"state": "all"}, ValueError, r"'state' must be .*observation.*, got 'all'"),
        (
            [[user("a"), said("a")]],
            {"action": None},
            (TypeError, ValueError),
            r"'action' must be .*message.*, got None",
        ),
        ([[user("a"), said("a")]], {"final": "stop"}, ValueError, r"'final' must be .*state.*, got 'stop'"),
        ([[user("a")]], {"ignore": "id"}, TypeError, r"'ignore' must be a list of names of fields, got .* str"),
        ([[user("a")]], {"ignore": [1]}, TypeError, r"'ignore' must hold strings, got .* int"),
        ([[user("a")]], {"ignore": ["role"]}, ValueError, r"'ignore' must not name 'role', which tells what the agent"),
        (
            [[user("a")]],
            {"groups": [0, 1]},
            ValueError,
            r"'groups' must have length 1 \(= the number of trajectories\), got 2",
        ),
        ([[user("a"), said("a")]], {"state": lambda _: 1.5}, TypeError, r"'state' must be"),
    ],
)
def test_wrong_calls(conversations, keywords, error, match):
    with pytest.raises(error, match=rf"^Steps.from_messages\(\): {match}"):
        Steps.from_messages(conversations, **({"groups": [0] * len(conversations)} | keywords))


def test_a_message_that_is_too_deep():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError, match=r"conversations\[0\]\[0\] must hold what JSON can hold, but: "):
        Steps.from_messages([[user(deep), said("a")]], groups=[0])
