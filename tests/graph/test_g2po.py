"""graph.g2po: the vector, numbers of the official code, the oracle, and what its terms do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Steps, group, ops
from rollmath.graph import g2po

#: Options multiply.
MANY = settings(max_examples=max(200, settings().max_examples))


def test_the_vector_checked_by_hand(oracle, vectors):
    case = vectors("structured")["G1"]
    states, actions = oracle("graph_tables.py", "of_lines")(case["traj"])
    steps = Steps.from_episodes(states, actions, groups=[0] * 4)
    got = g2po(steps, 10 * np.array(case["R"]), scale="none", advantages=np.zeros(4))
    assert got.tolist() == pytest.approx([x for row in case["g2po_mean"] for x in row], abs=5.1e-7)


def test_against_the_official_code(oracle, vectors, tolerance):
    golden = vectors("graph_values")
    assert len(golden["g2po"]) == 10
    for record in golden["g2po"]:
        case = golden["cases"][record["case"]]
        columns, given_too, of = oracle("graph_tables.py", "golden")(case)
        got = g2po(Steps(*columns, **given_too), of["rewards"], invalid=case["invalid"], **record["options"])
        np.testing.assert_allclose(got, record["out"], **tolerance("float64"))


@MANY
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.sampled_from(["std", "none"]),
    st.sampled_from(["trajectories", "step_rows"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, gamma, scale, statistics, refused, sentinel, dtype):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn).astype(dtype)
    # An eps of a hundredth, so that little hangs on whether numbers that are equal by the formula are so to the bit.
    options = {"gamma": gamma, "scale": scale, "statistics": statistics, "weight": 0.7, "eps": 0.01}
    if refused:
        options |= {"invalid": drawn.rng.random(len(drawn.state)) < 0.3, "invalid_penalty": 0.25}
    if sentinel:
        options["terminal"] = np.where(rewards > 0, 10.0, 0.0)
    got = g2po(Steps(*columns, **given_too), rewards, **options)
    expected = oracle("graph/g2po.py", "g2po")(drawn.table, rewards.tolist(), **options)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(st.integers(0, 2**32), st.sampled_from(["std", "none"]))
def test_terms_of_steps_sum_to_zero_over_a_task_and_the_first_is_of_the_group(oracle, seed, scale):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    steps = Steps(*columns, **given_too)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn)
    terms = g2po(steps, rewards, scale=scale, advantages=np.zeros(steps.n_trajectories))
    np.testing.assert_allclose(ops.segment_sum(terms, steps.row_groups), 0, atol=1e-8)
    flat = group.grpo(rewards, steps.trajectory_groups, scale=scale, singleton="raw")
    np.testing.assert_allclose(g2po(steps, rewards, scale=scale), steps.gather(flat) + terms, atol=1e-12)
    np.testing.assert_array_equal(g2po(steps, rewards, scale=scale, weight=0.0), steps.gather(flat))


@given(st.integers(0, 2**32))
def test_scale_and_shift(oracle, seed):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    steps, rewards = Steps(*columns, **given_too), oracle("graph_tables.py", "draw_rewards")(drawn)
    options = {"gamma": 1.0, "scale": "none", "singleton": "zero"}
    got = g2po(steps, rewards, **options)
    np.testing.assert_allclose(g2po(steps, rewards + 3, **options), got, atol=1e-9)
    np.testing.assert_allclose(g2po(steps, 7 * rewards, **options), 7 * got, atol=1e-9)


def test_a_refused_action_is_worse_than_its_equal_there_and_nowhere_else():
    steps = Steps([0, 1, 2], ["a", "a", "b"], groups=[0] * 3)
    got = g2po(steps, [1.0, 1.0, 1.0], scale="none", invalid=[False, True, True])
    assert got.tolist() == pytest.approx([0.05, -0.05, 0.0])
    got = g2po(steps, [1.0, 1.0, 1.0], scale="none", invalid=[0, 1, 1], invalid_penalty=1.0)
    assert got.tolist() == pytest.approx([0.5, -0.5, 0.0])


def test_what_comes_after_the_last_step():
    steps = Steps([0, 1], ["a", "a"], groups=[0, 0])
    # V(a) = 0.95 / 2. By default the reward follows, here 1 and 0; the official code has 10 for success.
    assert g2po(steps, [1.0, 0.0], scale="none").tolist() == pytest.approx([1.5, -1.5])
    assert g2po(steps, [1.0, 0.0], scale="none", terminal=[10.0, 0.0]).tolist() == pytest.approx([10.5, -10.5])


def test_cycles_lone_steps_all_success_and_none():
    loop = Steps([0] * 3, ["a", "a", "b"], groups=[0])
    assert np.isfinite(g2po(loop, [1.0])).all()
    steps = Steps([0, 0, 1, 2], ["a", "b", "a", "c"], groups=["p", "p", "q"])
    assert not g2po(steps, [0.0, 0.0, 0.0]).any()
    assert not g2po(steps, [1.0, 1.0, 1.0], gamma=1.0, singleton="zero").any()


def test_wrong_options():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    who = r"^g2po\(\): "
    with pytest.raises(ValueError, match=who + "'gamma' must be between 0 and 1, got 1.5"):
        g2po(steps, [1.0, 0.0], gamma=1.5)
    with pytest.raises(ValueError, match=who + r"'terminal' must have length 2 \(= steps.n_trajectories\), got 3"):
        g2po(steps, [1.0, 0.0], terminal=[1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=who + r"'invalid' must have length 3 \(= the number of rows\), got 2"):
        g2po(steps, [1.0, 0.0], invalid=[True, False])
    with pytest.raises(TypeError, match=who + "'invalid' must be bool or integer"):
        g2po(steps, [1.0, 0.0], invalid=[0.5, 0.0, 0.0])
    for name in ("weight", "invalid_penalty"):
        with pytest.raises(ValueError, match=who + f"'{name}' must be finite, got inf"):
            g2po(steps, [1.0, 0.0], **{name: np.inf})
