"""graph.salt: hand vectors, the oracle, the laws of its choices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Steps
from rollmath.graph import salt

MANY = settings(max_examples=max(150, settings().max_examples))
SEEDS = st.integers(0, 2**32)


def build(table):
    columns = {name: table.get(key) for name, key in (("groups", "groups"), ("step", "step"), ("next_state", "next"))}
    return Steps(table["trajectory"], table["state"], table["action"], **columns)


def example(paths):
    """``s a s'`` rows of trajectories of one task."""
    states, actions = ([[row.split()[i] for row in path] for path in paths] for i in (0, 1))
    return Steps.from_episodes(states, actions, groups=[0] * len(paths))


def by_trajectory(steps, x):
    return [np.asarray(x)[steps.trajectory_index == t] for t in range(steps.n_trajectories)]


def draw(steps, seed, dtype=np.float64):
    values = dict(
        zip(sorted(steps.trajectory_ids), np.random.default_rng(seed).normal(size=steps.n_trajectories), strict=True)
    )
    return np.array([values[t] for t in steps.trajectory_ids], dtype)


@pytest.mark.parametrize("history", [0, 1])
def test_the_reference_graph(vectors, history):
    case = vectors("structured")["G1"]
    steps = example(case["traj"])
    grpo = rm.group.grpo([float(r) for r in case["R"]], steps.trajectory_groups)
    for got, expected in zip(
        by_trajectory(steps, salt(steps, grpo, history=history)), case["salt_grpo_h0"], strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-6)
    # Leave-one-out advantages of 1, 0, 0, 1 are 2/3 and -2/3: the first step has a third of -2/3, the second of t0 0.
    rloo = rm.group.rloo([1.0, 0.0, 0.0, 1.0], steps.trajectory_groups)
    third = 2 / 3
    hand = [[-third / 3, 0, third], [-third / 3, -third, -third], [-third / 3, 0, -third, -third], [third] * 3]
    for got, expected in zip(by_trajectory(steps, salt(steps, rloo, history=history)), hand, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("history", [0, 1])
def test_history_tells_a_shared_step_apart(vectors, history):
    file = vectors("structured")
    steps = example([*file["G1"]["traj"][:3], file["G1prime_t3"]])
    got = by_trajectory(steps, salt(steps, rm.group.grpo([1.0, 0, 0, 1], [0] * 4), history=history))
    for t in (2, 3):
        np.testing.assert_allclose(got[t], file["G1prime_salt_grpo"][f"h{history}_t{t}"], atol=1e-6)
    for t in (0, 1):
        np.testing.assert_allclose(got[t], file["G1"]["salt_grpo_h0"][t], atol=1e-6)


@MANY
@given(
    SEEDS,
    st.sampled_from([0, 1, 2, 5, None]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["end", "outcome"]),
    st.sampled_from(["visit", "trajectory"]),
    st.sampled_from([None, "task"]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, history, action, next_state, ends, count, renormalise, own, dtype):
    table = oracle("step_tables.py", "random_table")(seed)
    if own:
        table["next"] = np.random.default_rng(seed).choice(list("abcd"), len(table["state"])).tolist()
    steps = build(table)
    advantages = draw(steps, seed, dtype)
    terminal = (
        "end" if ends == "end" else {t: float(a > 0) for t, a in zip(steps.trajectory_ids, advantages, strict=True)}
    )
    options = {
        "history": history,
        "action": action,
        "next_state": next_state,
        "count": count,
        "renormalise": renormalise,
    }
    got = salt(steps, advantages, **options, terminal=terminal if ends == "end" else list(terminal.values()))
    given_by_id = dict(zip(steps.trajectory_ids, advantages, strict=True))
    expected = oracle("graph/salt.py", "salt")(table, given_by_id, **options, terminal=terminal)
    assert got.dtype == dtype
    rtol = {"rtol": 1e-9, "atol": 1e-9} if dtype == np.float64 and renormalise else tolerance(dtype.__name__)
    np.testing.assert_allclose(got, expected, **rtol)


@given(SEEDS, st.sampled_from([0, 1, None]))
def test_visits_keep_the_sum_of_each_task(oracle, seed, history):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    advantages = draw(steps, seed)
    before = rm.ops.segment_sum(steps.gather(advantages), steps.row_groups)
    after = rm.ops.segment_sum(salt(steps, advantages, history=history), steps.row_groups)
    np.testing.assert_allclose(after, before, atol=1e-12)


@given(SEEDS)
def test_all_of_the_past_is_the_mean_over_rollouts_with_that_prefix(oracle, seed):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    advantages = draw(steps, seed)
    # A prefix tree of transitions: one token for each (state, action, next state).
    tokens = steps.by_trajectory(steps.groups(by="transition").index)
    forest = rm.Forest.from_sequences(tokens.values, tokens.offsets, groups=steps.trajectory_groups)
    mean = forest.expand(rm.ops.up(forest, advantages, how="leaf_mean"), per="rollout")
    got = steps.by_trajectory(salt(steps, advantages, history=None))
    np.testing.assert_allclose(got.values, mean.values, atol=1e-12)
    # One trajectory has a prefix once, so that both counts are the same.
    np.testing.assert_allclose(salt(steps, advantages, history=None, count="trajectory"), steps.by_row(got), atol=1e-12)


@given(SEEDS, st.sampled_from(["visit", "trajectory"]))
def test_shift_and_scale(oracle, seed, count):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    advantages = draw(steps, seed)
    once = salt(steps, advantages, count=count)
    np.testing.assert_allclose(salt(steps, 3 * advantages + 2, count=count), 3 * once + 2, atol=1e-12)
    # Where the spread is more than what rounding leaves.
    spread = rm.ops.gather(rm.ops.segment_std(once, steps.row_groups), steps.row_groups) > 1e-9
    kept = salt(steps, advantages, count=count, renormalise="task", eps=0.0)
    other = salt(steps, 3 * advantages + 2, count=count, renormalise="task", eps=0.0)
    np.testing.assert_allclose(other[spread], kept[spread], atol=1e-9)


def test_a_step_that_all_take_is_neutral_by_trajectory():
    # t loops twice, so by visit it counts twice.
    steps = Steps.from_episodes([["a", "a", "a"], ["a", "a"]], [["x", "x", "y"], ["x", "z"]], groups=[0, 0])
    assert salt(steps, [1.0, -1.0], count="trajectory").tolist() == [0, 0, 1, 0, -1]
    assert salt(steps, [1.0, -1.0]).tolist() == pytest.approx([1 / 3, 1 / 3, 1, 1 / 3, -1])


def test_ends_of_different_outcome_are_different_steps():
    steps = Steps.from_episodes([["a"], ["a"], ["a"]], [["x"], ["x"], ["x"]], groups=[0] * 3)
    assert salt(steps, [1.0, -1.0, 0.0]).tolist() == [0, 0, 0]
    assert salt(steps, [1.0, -1.0, 0.0], terminal=[1.0, 0.0, 1.0]).tolist() == [0.5, -1.0, 0.5]
    assert salt(steps, [1.0, -1.0, 0.0], terminal=["won", "lost", "lost"]).tolist() == [1, -0.5, -0.5]
    assert salt(steps, [1.0, -1.0, 0.0], terminal=["won", "lost", "lost"], next_state=False).tolist() == [0, 0, 0]


def test_ends_that_are_named_come_before_next_states():
    steps = Steps.from_episodes([["a", "z"], ["a", "z"], ["a", "y"]], [["x"]] * 3, groups=[0] * 3)
    assert salt(steps, [1.0, -1.0, 0.5]).tolist() == [0, 0, 0.5]
    assert salt(steps, [1.0, -1.0, 0.5], terminal=["won", "lost", "won"]).tolist() == [0.75, -1, 0.75]


def test_a_task_without_spread_afterwards_gets_nothing():
    steps = Steps.from_episodes([["a"], ["a"], ["b"]], [["x"], ["x"], ["x"]], groups=["p", "p", "q"])
    assert salt(steps, [0.3, 0.1, 5.0], renormalise="task").tolist() == [0, 0, 0]
    assert salt(steps, [0.3, 0.1, 5.0], renormalise="task", singleton="raw")[2] == 5 / (1 + 1e-6)
    with pytest.raises(ValueError, match=r"salt\(\): 'steps' has a task without spread \(that of row 0\); choose"):
        salt(steps, [0.3, 0.1, 5.0], renormalise="task", zero_spread="raise")


def test_wrong_calls():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    for options, error, message in [
        ({"renormalise": "batch"}, ValueError, r"salt\(\): 'renormalise' must be one of 'task', got 'batch'"),
        ({"count": "step"}, ValueError, r"salt\(\): 'count' must be one of 'visit', 'trajectory', got 'step'"),
        ({"history": -1}, ValueError, r"^salt\(\): 'history' must be at least 0, got -1"),
        ({"history": 1.5}, TypeError, r"^salt\(\): 'history' must be a whole number"),
        ({"action": 1}, TypeError, r"^salt\(\): 'action' must be True or False, got 1"),
        ({"terminal": "won"}, ValueError, r"^salt\(\): 'terminal' must be one of 'end', got 'won'"),
        ({"terminal": [1, 2, 3]}, ValueError, r"^salt\(\): 'terminal' must have length 2"),
        (
            {"terminal": [1, "1"]},
            TypeError,
            r"^salt\(\): 'terminal' must be of one type, got int at index 0 and str at index 1",
        ),
        ({"convention": rm.conventions.VERL}, ValueError, r"VERL.* has no convention for 'salt'"),
    ]:
        with pytest.raises(error, match=message):
            salt(steps, [1.0, 0.0], **options)
