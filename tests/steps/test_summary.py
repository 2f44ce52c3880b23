"""Steps.summary against plain loops, and what it prints."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps

KEY = st.integers(0, 2)
TABLES = st.lists(st.tuples(KEY, st.lists(st.tuples(KEY, KEY), max_size=5)), max_size=7)


def made(table):
    lengths = [len(rows) for _, rows in table]
    states, actions = ([pair[i] for _, rows in table for pair in rows] for i in (0, 1))
    return Steps.from_lengths(lengths, states, actions, groups=[task for task, _ in table])


@given(TABLES, st.integers(0, 2**32))
def test_counts_are_those_of_plain_loops(table, seed):
    steps = made(table)
    advantages = np.random.default_rng(seed).integers(-1, 2, size=len(table)).astype(float)
    rows = []
    for i, (task, own) in enumerate(table):
        for t, (state, action) in enumerate(own):
            after = own[t + 1][0] if t + 1 < len(own) else "end"
            rows.append((task, i, state, (task, state, action, after), state in [s for s, _ in own[:t]]))
    changed = []
    for _, i, _, key, _ in rows:
        same = [advantages[j] for _, j, _, other, _ in rows if other == key]
        changed.append(abs(sum(same) / len(same) - advantages[i]) > 1e-9)
    shared = [len({j for _, j, _, other, _ in rows if other == key}) > 1 for *_, key, _ in rows]
    got = steps.summary(advantages)
    tasks = list(dict.fromkeys(task for task, _ in table))
    assert got.tasks == tuple(tasks)
    of = [[r for r in range(len(rows)) if rows[r][0] == task] for task in tasks]
    assert got.by_task.trajectories.tolist() == [sum(task == t for t, _ in table) for task in tasks]
    assert got.by_task.steps.tolist() == [len(mine) for mine in of]
    assert got.by_task.states.tolist() == [len({rows[r][2] for r in mine}) for mine in of]
    assert got.by_task.distinct_steps.tolist() == [len({rows[r][3] for r in mine}) for mine in of]
    assert got.by_task.shared_steps.tolist() == [sum(shared[r] for r in mine) for mine in of]
    assert got.by_task.revisits.tolist() == [sum(rows[r][4] for r in mine) for mine in of]
    assert got.by_task.changed.tolist() == [sum(changed[r] for r in mine) for mine in of]
    assert (got.n_tasks, got.n_trajectories, got.n_steps) == (len(tasks), len(table), len(rows))
    assert (got.n_states, got.n_distinct_steps) == (len({r[:1] + r[2:3] for r in rows}), len({r[3] for r in rows}))
    assert (got.n_shared_steps, got.n_revisits, got.n_changed) == (sum(shared), sum(r[4] for r in rows), sum(changed))
    # Without advantages all but the last is the same.
    plain = steps.summary()
    assert plain[:7] == got[:7]
    assert plain.n_changed == -1
    assert math.isnan(plain.changed)
    # A credit of one's own.
    assert steps.summary(advantages, credit=advantages[steps.trajectory_index]).n_changed == 0
    assert steps.summary(advantages, credit=advantages[steps.trajectory_index] + 3).n_changed == len(rows)


def test_g1(vectors):
    """Of 13 rows 7 are shared; 2 of them, (s2, c, END), by trajectories of equal advantage."""
    rows = [[step.split() for step in trajectory] for trajectory in vectors("structured")["G1"]["traj"]]
    states, actions = ([step[i] for trajectory in rows for step in trajectory] for i in (0, 1))
    steps = Steps.from_lengths(list(map(len, rows)), states, actions, groups=["p"] * 4)
    got = steps.summary([1.0, -1.0, -1.0, 1.0])
    assert (got.n_steps, got.n_states, got.n_distinct_steps, got.n_shared_steps, got.n_revisits) == (13, 5, 9, 7, 0)
    assert got.n_changed == 5  # (s0, a, s1) of three, and (s1, b, s2) of two
    assert (got.merge_ratio, got.shared, got.changed) == (13 / 9, 7 / 13, 5 / 13)


def test_other_merges_and_dtypes():
    table = [("p", [("a", "x"), ("b", "x")]), ("p", [("c", "x"), ("b", "x")])]
    steps = made(table)
    assert steps.summary().n_shared_steps == 2
    assert steps.summary(merged=steps.merge(history=1)).n_shared_steps == 0
    # Rounding of float32 is no difference, and neither is NaN to NaN.
    third = np.array([1 / 3, 1 / 3], np.float32)
    assert steps.summary(third, credit=np.full(4, 1 / 3)).n_changed == 0
    assert steps.summary([np.nan, np.nan]).n_changed == 0
    assert steps.summary([np.nan, 1.0]).n_changed == 1


def test_text():
    steps = made([("p", [(0, 0)]), ("p", [(0, 0)]), ("q", [(0, 0), (0, 0)]), ("r", [])])
    got = steps.summary([1.0, 0.0, 0.0, 0.0])
    assert str(got) == (
        "3 tasks, 4 trajectories, 4 steps in 2 states\n"
        "  distinct steps  3, 1.33 rows each\n"
        "  shared steps    2 rows, 50.0%: another trajectory takes them, too\n"
        "  revisits        1 row in a state that their trajectory has been in before\n"
        "  credit          differs from the trajectory's in 2 rows, 50.0%"
    )
    assert got.table() == (
        "task  trajectories  steps  states  distinct  shared  revisits  changed\n"
        "   p             2      2       1         1       2         0        2\n"
        "   q             1      2       1         2       0         1        0\n"
        "   r             1      0       0         0       0         0        0"
    )
    assert steps.summary().table(limit=1).splitlines()[2:] == ["and 2 more tasks"]
    assert "changed" not in steps.summary().table()
    empty = made([]).summary([])
    assert str(empty).startswith("0 tasks, 0 trajectories, 0 steps in 0 states\n")
    assert empty.table() == "task  trajectories  steps  states  distinct  shared  revisits  changed"


@pytest.mark.parametrize(
    ("keywords", "error", "match"),
    [
        ({"advantages": [1.0]}, ValueError, r"'advantages' must have length 2 \(= steps.n_trajectories\), got 1"),
        ({"credit": [1.0] * 3}, ValueError, r"'credit' needs 'advantages' to be compared with; give one a trajectory"),
        (
            {"advantages": [1.0, 2.0], "credit": [1.0]},
            ValueError,
            r"'credit' must have length 3 \(= the number of rows\), got 1",
        ),
        ({"merged": 3}, TypeError, r"'merged' must be a MergedSteps, as steps.merge\(\) gives, got .* int"),
        ({"merged": made([]).merge()}, ValueError, r"'merged' must be of these steps, with 3 rows, got 0"),
        (
            {"merged": made([("p", [(0, 0), (0, 0), (0, 0)])]).merge()},
            ValueError,
            r"'merged' must be of these steps, got one of steps with other trajectories",
        ),
    ],
)
def test_wrong_calls(keywords, error, match):
    steps = made([("p", [("a", "x"), ("b", "x")]), ("p", [("c", "x")])])
    with pytest.raises(error, match=rf"^Steps.summary\(\): {match}"):
        steps.summary(**keywords)
    with pytest.raises(ValueError, match=r"^StepsSummary.table\(\): 'limit' must be at least 1, got 0"):
        steps.summary().table(limit=0)
