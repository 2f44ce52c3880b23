"""graph.graphgpo: vectors, numbers of the official code, the oracle, and what distances are where success is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Steps
from rollmath.graph import graphgpo

#: Options multiply.
MANY = settings(max_examples=max(200, settings().max_examples))


def test_the_vector_checked_by_hand(oracle, vectors):
    case = vectors("structured")["G1"]
    states, actions = oracle("graph_tables.py", "of_lines")(case["traj"])
    steps = Steps.from_episodes(states, actions, groups=[0] * 4)
    got = graphgpo(steps, case["R"], beta_e=0.0)
    assert got.tolist() == pytest.approx([x for row in case["graphgpo_z"] for x in row], abs=5.1e-7)


def test_against_the_official_code(oracle, vectors):
    golden = vectors("graph_values")
    assert len(golden["graphgpo"]) == 20
    for record in golden["graphgpo"]:
        columns, given_too, of = oracle("graph_tables.py", "golden")(golden["cases"][record["case"]])
        got = graphgpo(
            Steps(*columns, **given_too), of["rewards"], truncated=np.array(of["truncated"]), **record["options"]
        )
        # The code keeps the returns of steps in float32.
        np.testing.assert_allclose(got, record["out"], rtol=1e-6, atol=5e-7)


@MANY
@given(
    st.integers(0, 2**32),
    st.sampled_from(["code", "paper", "progress"]),
    st.sampled_from(["std", "none"]),
    st.sampled_from(["trajectories", "step_rows"]),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, formula, scale, statistics, omega, costly, cut, dtype):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn, next_state=cut)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn).astype(dtype)
    # An eps of a hundredth, so that little hangs on whether numbers that are equal by the formula are so to the bit.
    options = {"formula": formula, "scale": scale, "statistics": statistics, "omega": omega, "eps": 0.01}
    options |= {"beta_e": 0.5, "beta_g": 2.0}
    if costly:
        options["costs"] = drawn.rng.choice([0.0, 1.0, 2.5], len(drawn.state))
    if cut:
        options["success"] = drawn.rng.random(len(rewards)) < 0.4
        options["truncated"] = drawn.rng.random(len(rewards)) < 0.4
    got = graphgpo(Steps(*columns, **given_too), rewards, **options)
    expected = oracle("graph/graphgpo.py", "graphgpo")(drawn.table, rewards.tolist(), **options)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


def test_no_success_and_all_success():
    steps = Steps([0, 0, 1, 2, 3], ["a", "b", "a", "a", "b"], groups=["p", "p", "q", "q"])
    for formula in ("code", "paper", "progress"):
        for costs in (None, [1.0, 2.0, 3.0, 4.0, 5.0]):
            assert not graphgpo(steps, [0.0] * 4, formula=formula, costs=costs).any()
        # A task of its own: the success of p is none of q's.
        got = graphgpo(steps, [1.0, 0.0, 0.0, 0.0], formula=formula)
        assert not got[3:].any()
        # Where all succeed, the way of one step is better than that of two.
        got = graphgpo(steps, [1.0] * 4, formula=formula)
        assert got[0] == pytest.approx(-got[2])
        assert got[0] < 0
        assert got[1] == 0


def test_unreachable_states_are_one_further_than_the_furthest():
    # The way a, b, success is 2 long; c leads nowhere, so that it is 3 from success, and so is the end of failure.
    steps = Steps([0, 0, 1, 1], ["a", "b", "a", "c"], groups=[0, 0])
    got = graphgpo(steps, [1.0, 0.0], beta_e=0.0, scale="none", omega=0.5)
    raw = 10 * 0.5 ** np.array([1, 3])
    assert got.tolist() == pytest.approx([raw[0] - raw.mean(), 0, raw[1] - raw.mean(), 0])


def test_cycles_and_self_loops_do_not_come_nearer():
    steps = Steps([0] * 4, ["a", "a", "b", "a"], groups=[0])
    got = graphgpo(steps, [1.0], beta_e=0.0, scale="none", omega=0.5)
    # From a: to a (1 from success), to b (2), to success (0); from b in one way alone.
    raw = 10 * 0.5 ** np.array([1.0, 2.0, 0.0])
    assert got.tolist() == pytest.approx([*(raw - raw.mean())[:2], 0, (raw - raw.mean())[2]])


def test_the_cheapest_of_equal_transitions_counts():
    steps = Steps([0, 1, 1], ["a", "a", "b"], groups=[0, 0])
    a, b = (
        graphgpo(steps, [1.0, 1.0], beta_e=0.0, scale="none", omega=0.5, formula="progress", costs=costs)
        for costs in ([4.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    )
    # With a first step of 4 the way over b is the shortest: d(a) = 2 against 1.
    raw = 10 * 0.5 ** np.array([0 - 2 + 4, 1 - 2 + 1])
    assert a[:2].tolist() == pytest.approx((raw - raw.mean()).tolist())
    assert b[0] == -b[1] > 0


def test_success_is_what_is_said_and_by_default_a_positive_reward():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    rewards = [0.5, -0.5]
    same = graphgpo(steps, rewards)
    np.testing.assert_array_equal(graphgpo(steps, rewards, success=[True, False]), same)
    assert (np.sign(graphgpo(steps, rewards, success=[False, True], beta_e=0.0)) == [-1, 0, 1]).all()
    # What a success is worth is a factor without division, and no matter with it.
    plain = graphgpo(steps, rewards, beta_e=0.0, scale="none")
    np.testing.assert_allclose(graphgpo(steps, rewards, beta_e=0.0, scale="none", success_reward=1.0), plain / 10)


def test_wrong_options():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    who = r"^graphgpo\(\): "
    for omega in (0.0, 1.5, np.nan):
        with pytest.raises(ValueError, match=who + "'omega' must be above 0 and at most 1, got"):
            graphgpo(steps, [1.0, 0.0], omega=omega)
    with pytest.raises(ValueError, match=who + "'formula' must be one of 'code', 'paper', 'progress', got 'kernel'"):
        graphgpo(steps, [1.0, 0.0], formula="kernel")
    with pytest.raises(ValueError, match=who + r"'costs' must have length 3 \(= the number of rows\), got 1"):
        graphgpo(steps, [1.0, 0.0], costs=[1.0])
    with pytest.raises(ValueError, match=who + "'costs' must not be negative, got -1 at index 1"):
        graphgpo(steps, [1.0, 0.0], costs=[1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match=who + "'costs' must be finite, got inf at index 2; every step needs"):
        graphgpo(steps, [1.0, 0.0], costs=[1.0, 1.0, np.inf])
    with pytest.raises(ValueError, match=who + r"'success' must have length 2 \(= steps.n_trajectories\), got 3"):
        graphgpo(steps, [1.0, 0.0], success=[True] * 3)
    with pytest.raises(TypeError, match=who + "'success' must be bool or integer"):
        graphgpo(steps, [1.0, 0.0], success=[0.5, 1.0])
    for name in ("beta_e", "beta_g", "success_reward"):
        with pytest.raises(ValueError, match=who + rf"'{name}' must be finite, got inf"):
            graphgpo(steps, [1.0, 0.0], **{name: np.inf})
