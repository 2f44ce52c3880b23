"""Steps.groups and Steps.merge: which rows are the same, against keys that are written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps

SEEDS = st.integers(0, 2**32)


def build(table):
    columns = {name: table.get(key) for name, key in (("groups", "groups"), ("step", "step"), ("next_state", "next"))}
    return Steps(table["trajectory"], table["state"], table["action"], **columns)


def first_seen(keys):
    numbers = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


@given(SEEDS, st.sampled_from(["state", "action", "transition"]), st.sampled_from([0, 1, 2, 3, None]), st.booleans())
def test_groups_are_those_of_written_out_keys(oracle, seed, by, history, own):
    table = oracle("step_tables.py", "random_table")(seed)
    if own:
        table["next"] = np.random.default_rng(seed).choice(list("abcd"), len(table["state"])).tolist()
    keys = []
    for i, (path, at) in enumerate(oracle("step_tables.py", "place")(table["trajectory"], table["step"])):
        step = [(table["state"][j], by != "state" and table["action"][j]) for j in path]
        after = table["state"][path[at + 1]] if at + 1 < len(path) else None
        past = ["start"] * (8 if history is None else max(history - at, 0)) + step[:at]
        past = past[-history:] if history else [] if history == 0 else (at, *past)
        keys.append((table["groups"][i], *past, step[at], by == "transition" and (table["next"][i] if own else after)))
    assert build(table).groups(by=by, history=history).index.tolist() == first_seen(keys)


def test_tasks_and_trajectories():
    steps = Steps(["t", "u", "t", "v"], list("aaaa"), groups=["p", "p", "q"])
    assert steps.groups(by="task").index.tolist() == [0, 0, 0, 1]
    assert steps.groups(by="trajectory").index.tolist() == [0, 1, 0, 2]
    for by in ("task", "trajectory"):
        for history in (1, None):
            with pytest.raises(
                ValueError,
                match=rf"^Steps.groups\(\): 'history' must be 0 for by='{by}', which compares no steps, got {history}",
            ):
                steps.groups(by=by, history=history)


@given(SEEDS, st.sampled_from([0, 1, None]), st.sampled_from(["visit", "trajectory"]))
def test_what_merged_steps_have_in_common(oracle, seed, history, count):
    table = oracle("step_tables.py", "random_table")(seed)
    steps = build(table)
    x = np.random.default_rng(seed).normal(size=len(steps))
    merged = steps.merge(history=history, count=count)
    rows = [np.flatnonzero(merged.groups.index == g) for g in range(merged.groups.n_groups)]
    who = [{table["trajectory"][i] for i in members} for members in rows]
    assert merged.visits.tolist() == [len(members) for members in rows]
    assert merged.trajectories.tolist() == [len(names) for names in who]
    assert merged.shared.tolist() == [len(who[g]) > 1 for g in merged.groups.index]
    for i, g in enumerate(merged.groups.index):
        by_path = {t: [x[j] for j in rows[g] if table["trajectory"][j] == t] for t in who[g]}
        visits = len(by_path[table["trajectory"][i]])
        assert merged.weights[i] == (1.0 if count == "visit" else 1 / visits)
        mean = np.mean(x[rows[g]]) if count == "visit" else np.mean([np.mean(v) for v in by_path.values()])
        assert merged.mean(x)[i] == pytest.approx(mean, abs=1e-12)


def test_ends():
    steps = Steps.from_lengths([1, 1, 1, 0], ["a"] * 3, ["x"] * 3, groups=[0] * 4, next_state=["z", "z", "y"])

    def merged(**options):
        return steps.merge(**options).groups.index.tolist()

    assert merged() == [0, 0, 1]
    assert merged(next_state=False) == [0, 0, 0]
    # Ends that are named are the next states of last rows, whatever was seen there.
    assert merged(terminal=["won", "lost", "won", "lost"]) == [0, 1, 0]
    assert merged(terminal=[1.0, -0.0, 0.0, 2.0]) == [0, 1, 1]
    assert merged(terminal=np.array([b"w", b"l", b"l", b"w"])) == [0, 1, 1]
    assert merged(terminal=[1, 2, 3, 4], next_state=False) == [0, 0, 0]


@pytest.mark.parametrize(
    ("terminal", "error", "message"),
    [
        ("won", ValueError, r"'terminal' must be one of 'end', got 'won'"),
        ([1, 2], ValueError, r"'terminal' must have length 1 \(= steps.n_trajectories\), got 2"),
        ([["won"]], TypeError, r"'terminal' must be 1-D"),
        (None, TypeError, r"'terminal' must be an array of numbers, got an object of type NoneType"),
    ],
)
def test_wrong_ends(terminal, error, message):
    with pytest.raises(error, match=rf"^Steps.merge\(\): {message}"):
        Steps([0], ["a"], groups=[0]).merge(terminal=terminal)
    if error is TypeError:
        with pytest.raises(error, match=rf"^Steps.graph\(\): {message}"):
            Steps([0], ["a"], groups=[0]).graph(terminal=terminal)


def test_ends_of_several_types():
    steps = Steps([0, 1], ["a", "a"], groups=[0, 0])
    for terminal, types in (([1, "1"], "int at index 0 and str at index 1"), ([b"a", "a"], "bytes at index 0 and str")):
        with pytest.raises(TypeError, match=rf"^Steps.merge\(\): 'terminal' must be of one type, got {types}"):
            steps.merge(terminal=terminal)


def test_wrong_calls():
    steps = Steps([0, 1], ["a", "a"], groups=[0, 0])
    for call, error, message in [
        (lambda: steps.merge(count="row"), ValueError, r"merge\(\): 'count' must be one of 'visit', 'trajectory'"),
        (lambda: steps.merge(history=-1), ValueError, r"merge\(\): 'history' must be at least 0, got -1"),
        (lambda: steps.merge(action="x"), TypeError, r"merge\(\): 'action' must be True or False, got 'x'"),
        (lambda: steps.merge(next_state=None), TypeError, r"merge\(\): 'next_state' must be True or False, got None"),
        (lambda: steps.groups(by="node"), ValueError, r"groups\(\): 'by' must be one of 'task', 'trajectory', 'state'"),
        (lambda: steps.groups(history=0.5), TypeError, r"groups\(\): 'history' must be a whole number"),
        (lambda: steps.merge().mean([1.0]), ValueError, r"mean\(\): 'x' must have length 2 \(= the number of rows\)"),
    ]:
        with pytest.raises(error, match=message):
            call()
