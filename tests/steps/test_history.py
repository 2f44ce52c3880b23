"""Groups and merged steps of every history, by dictionaries and by trees."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Forest, Steps

HISTORY = st.one_of(st.none(), st.integers(0, 9))


def table_of(seed):
    """Rows (trajectory, task, state, action, time, next state): few texts, revisits, self-loops, in any order."""
    draw = random.Random(seed)
    rows = []
    for task in range(draw.randint(1, 3)):
        states, actions = "abc"[: draw.randint(1, 3)], "xy"[: draw.randint(1, 2)]
        for k in range(draw.randint(1, 5)):
            times = sorted(draw.sample(range(-9, 40), draw.choice([1, 2, 3, 5, 9])))
            rows += [
                (f"{task}.{k}", task, draw.choice(states), draw.choice(actions), t, draw.choice("abc")) for t in times
            ]
    draw.shuffle(rows)
    return rows


def steps_of(rows, *, given_next=False):
    trajectory, task, state, action, time, after = map(list, zip(*rows, strict=True))
    return Steps(trajectory, state, action, groups=task, step=time, next_state=after if given_next else None)


def paths_of(rows):
    """Row numbers of each trajectory in time order."""
    return {
        t: sorted((i for i, r in enumerate(rows) if r[0] == t), key=lambda i: rows[i][4]) for t in {r[0] for r in rows}
    }


def same(numbers, keys):
    """Whether both split the rows alike, groups in order of first appearance."""
    seen = {}
    return [int(n) for n in numbers] == [seen.setdefault(key, len(seen)) for key in keys]


@given(st.integers(0, 2**32), HISTORY, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_merge_agrees_with_a_dictionary(seed, history, action, next_state, outcome, given_next):
    rows = table_of(seed)
    steps = steps_of(rows, given_next=given_next)
    won = {t: i % 2 for i, t in enumerate(steps.trajectory_ids)}
    terminal = [won[t] for t in steps.trajectory_ids] if outcome else "end"
    keys = [()] * len(rows)
    for trajectory, path in paths_of(rows).items():
        for place, i in enumerate(path):
            start = 0 if history is None else max(0, place - history)
            before = tuple((rows[j][2], rows[j][3] if action else "") for j in path[start:place])
            # A window that reaches the start tells it apart from one that does not.
            before = ("start", *before) if history is None or place < history else before
            last = place + 1 == len(path)
            after = rows[i][5] if given_next else None if last else rows[path[place + 1]][2]
            if last and (outcome or not given_next):
                # Named ends are what a last row leads to, even if its next state is known.
                after = ("end", won[trajectory] if outcome else None)
            keys[i] = (rows[i][1], rows[i][2], rows[i][3] if action else "", after if next_state else "", before)
    merged = steps.merge(history=history, action=action, next_state=next_state, terminal=terminal)
    assert same(merged.groups.index, keys)

    users = {key: {rows[i][0] for i in range(len(rows)) if keys[i] == key} for key in keys}
    first = list(dict.fromkeys(keys))
    assert merged.visits.tolist() == [keys.count(key) for key in first]
    assert merged.trajectories.tolist() == [len(users[key]) for key in first]
    assert merged.shared.tolist() == [len(users[key]) > 1 for key in keys]
    x = np.random.default_rng(seed).normal(size=len(rows))
    mean = merged.mean(x)
    np.testing.assert_allclose(mean, [np.mean([x[j] for j, k in enumerate(keys) if k == key]) for key in keys])
    assert mean.sum() == pytest.approx(x.sum())
    by_trajectory = steps.merge(
        history=history, action=action, next_state=next_state, terminal=terminal, count="trajectory"
    )
    per_user = [
        np.mean([np.mean([x[j] for j in range(len(rows)) if keys[j] == key and rows[j][0] == t]) for t in users[key]])
        for key in keys
    ]
    np.testing.assert_allclose(by_trajectory.mean(x), per_user)


@given(st.integers(0, 2**32), HISTORY)
def test_groups_agree_with_a_dictionary(seed, history):
    rows = table_of(seed)
    steps = steps_of(rows)
    keys = {by: [()] * len(rows) for by in ("state", "action", "transition")}
    for path in paths_of(rows).values():
        for place, i in enumerate(path):
            start = 0 if history is None else max(0, place - history)
            missing = history is None or place < history
            before = path[start:place]
            after = rows[path[place + 1]][2] if place + 1 < len(path) else "END"
            pairs = (missing, *((rows[j][2], rows[j][3]) for j in before))
            keys["state"][i] = (rows[i][1:3], missing, *(rows[j][2] for j in before))
            keys["action"][i] = (rows[i][1:4], *pairs)
            keys["transition"][i] = (rows[i][1:4], after, *pairs)
    for by, expected in keys.items():
        groups = steps.groups(by=by, history=history)
        assert same(groups.index, expected), by
        assert groups.ids == tuple(range(groups.n_groups))
    assert steps.groups(by="task") is steps.row_groups
    assert same(steps.groups(by="trajectory").index, [row[0] for row in rows])


@given(st.integers(0, 2**32))
def test_all_of_history_is_the_tree_of_the_paths(seed):
    rows = table_of(seed)
    steps = steps_of(rows)
    groups = steps.merge(history=None, next_state=False).groups
    paths = paths_of(rows)
    order = list(steps.trajectory_ids)
    forest = Forest.from_paths(
        [[(rows[i][2], rows[i][3]) for i in paths[t]] for t in order],
        groups=[rows[paths[t][0]][1] for t in order],
        lengths=[[1] * len(paths[t]) for t in order],
    )
    nodes = forest.expand(np.arange(forest.n_nodes), per="rollout").values
    node_of_row = np.empty(len(rows), np.int64)
    node_of_row[[i for t in order for i in paths[t]]] = nodes
    assert same(groups.index, node_of_row.tolist())
    # A history of the longest trajectory, and any longer one, is all of it.
    longest = int(steps.lengths.max())
    for history in (longest, longest + 1, 10**30):
        assert steps.merge(history=history, next_state=False).groups == groups


@given(st.integers(0, 2**32), HISTORY)
def test_the_order_of_rows_and_names_do_not_matter(seed, history):
    rows = table_of(seed)
    turn = list(range(len(rows)))
    random.Random(seed + 1).shuffle(turn)
    renamed = [("t" + r[0], f"task {-r[1]}", r[2] * 300, {"x": "go"}.get(r[3], "stay"), r[4] * 3, r[5]) for r in rows]
    index = steps_of(rows).merge(history=history).groups.index
    assert same(steps_of([rows[i] for i in turn]).merge(history=history).groups.index, index[turn].tolist())
    assert np.array_equal(steps_of(renamed).merge(history=history).groups.index, index)
    alone = [i for i, r in enumerate(rows) if r[1] == rows[0][1]]
    assert same(steps_of([rows[i] for i in alone]).merge(history=history).groups.index, index[alone].tolist())


def test_the_reference_graph(vectors):
    case = vectors("structured")["G1"]
    states, actions = ([[row.split()[i] for row in path] for path in case["traj"]] for i in (0, 1))
    steps = Steps.from_episodes(states, actions, groups=["p"] * 4)
    merged = steps.merge()
    assert repr(merged) == "MergedSteps(13 rows, 9 steps, 7 rows shared)"
    # s0 a s1 of t0, t1, t2; s1 b s2 of t0, t2; s2 c END of t0, t3.
    assert merged.groups.index.tolist() == [0, 1, 2, 0, 3, 4, 0, 1, 5, 6, 7, 8, 2]
    assert steps.merge(history=1).groups.index.tolist() == [0, 1, 2, 0, 3, 4, 0, 1, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 64, 1000])
def test_windows_of_one_long_loop(length):
    """One state for ever: a window is told by whether, and where, it reaches the start."""
    steps = Steps.from_lengths([length], ["a"] * length, groups=[0])
    for history in {0, 1, 2, 3, 5, 8, 63, 999} | {length - 1, length}:
        expected = np.minimum(np.arange(length), history)
        assert np.array_equal(steps.groups(history=history).index, expected)
    assert np.array_equal(steps.groups(history=None).index, np.arange(length))


def test_threads_change_nothing():
    rng = np.random.default_rng(0)
    n = 200_000
    trajectory = np.sort(rng.integers(0, 20_000, n))
    task = trajectory % 700
    shuffle = rng.permutation(n)
    state, action = rng.integers(0, 5, n), rng.integers(0, 2, n)
    steps = Steps(trajectory[shuffle], state, action, groups=task[shuffle], step=np.arange(n)[shuffle])
    before = rm.num_threads()
    try:
        expected = None
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            got = [steps.merge(history=h).groups.index for h in (0, 1, 3, None)]
            expected = expected or got
            assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    finally:
        rm.set_num_threads(before)
