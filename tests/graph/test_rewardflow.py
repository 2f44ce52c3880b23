"""graph.rewardflow: vectors, numbers of the official code, the oracle, and distances to success."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Steps, ops
from rollmath.graph import rewardflow, rewardflow_values

#: Options multiply.
MANY = settings(max_examples=max(200, settings().max_examples))


def test_the_vectors_checked_by_hand(oracle, vectors):
    case = vectors("structured")["G1"]
    states, actions = oracle("graph_tables.py", "of_lines")(case["traj"])
    steps = Steps.from_episodes(states, actions, groups=[0] * 4)
    got = rewardflow_values(steps, case["R"])
    flat = [s for trajectory in states for s in trajectory]
    assert got.values.tolist() == pytest.approx([case["rewardflow_V"][s] for s in flat], abs=5.1e-7)
    a, b, c = 0.95**2 - 0.95**3, 0.95 - 0.95**2, 1 - 0.95
    earned = [a, b, c, a, 0, -(0.95**2), a, b, -0.95, 0, a, b, c]
    assert (got.next_values - got.values).tolist() == pytest.approx(earned)
    # By hand: from s1 they earn b, 0, b, from s2 c, -0.95, c, from s3 -0.9025, b; half a reward more or less.
    s1, s2, s3 = 2 * b / 3, (2 * c - 0.95) / 3, (b - 0.95**2) / 2
    step = [0, b - s1, c - s2, 0, -s1, -(0.95**2) - s3, 0, b - s1, -0.95 - s2, 0, 0, b - s3, c - s2]
    half = np.repeat([0.5, -0.5, -0.5, 0.5], [3, 3, 4, 3])
    assert rewardflow(steps, case["R"]).tolist() == pytest.approx((half + step).tolist())


def test_against_the_official_code(oracle, vectors, tolerance):
    golden = vectors("graph_values")
    assert len(golden["rewardflow"]) == 15
    for record in golden["rewardflow"]:
        columns, given_too, of = oracle("graph_tables.py", "golden")(golden["cases"][record["case"]])
        steps, truncated, options = Steps(*columns, **given_too), np.array(of["truncated"]), dict(record["options"])
        if options.pop("result", None) == "step_rewards":
            got = rewardflow_values(steps, of["rewards"], truncated=truncated, **options)
            got = got.next_values - got.values
        else:
            got = rewardflow(steps, of["rewards"], truncated=truncated, **options)
        np.testing.assert_allclose(got, record["out"], **tolerance("float64"))


@MANY
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    st.sampled_from(["std", "none"]),
    st.sampled_from(["trajectories", "step_rows"]),
    st.sampled_from(["value", "reward"]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, gamma, scale, statistics, last, cut, dtype):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn, next_state=cut)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn).astype(dtype)
    steps, both = Steps(*columns, **given_too), {"gamma": gamma}
    if cut:
        both["truncated"] = drawn.rng.random(len(rewards)) < 0.4
    # An eps of a hundredth, so that little hangs on whether numbers that are equal by the formula are so to the bit.
    options = both | {"scale": scale, "statistics": statistics, "last": last, "weight": 0.7, "eps": 0.01}
    got = rewardflow(steps, rewards, **options)
    expected = oracle("graph/rewardflow.py", "rewardflow")(drawn.table, rewards.tolist(), **options)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))
    values = oracle("graph/rewardflow.py", "rewardflow_values")(drawn.table, rewards.tolist(), **both)
    for a, b in zip(rewardflow_values(steps, rewards, **both), values, strict=True):
        np.testing.assert_allclose(a, b, **tolerance(dtype.__name__))


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_with_rewards_of_zero_and_one_values_are_powers_of_the_distance_to_success(oracle, seed, gamma):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    steps = Steps(*columns, **given_too)
    won = drawn.rng.random(steps.n_trajectories) < 0.4
    graph = steps.graph(terminal=won)
    success = np.zeros(graph.n_nodes, bool)
    success[graph.end_of_trajectory[won]] = True
    distance = ops.graph_distance(graph, success)
    expected = np.where(np.isfinite(distance), gamma ** np.where(np.isfinite(distance), distance, 0.0), 0.0)
    got = rewardflow_values(steps, won.astype(float), gamma=gamma)
    np.testing.assert_allclose(got.values, expected[graph.node_of_row], atol=1e-14)
    np.testing.assert_allclose(got.next_values, expected[graph.next_of_row], atol=1e-14)


def test_step_rewards_of_a_trajectory_sum_to_its_reward_less_the_value_of_its_start():
    steps = Steps([0, 0, 0, 1, 1], list("abcab"), groups=[0, 0])
    rewards = [1.0, 0.0]
    got = rewardflow_values(steps, rewards)
    earned = ops.segment_sum(got.next_values - got.values, steps.trajectory_index)
    np.testing.assert_allclose(earned, rewards - got.values[[0, 3]])


def test_no_success_negative_rewards_and_cycles():
    steps = Steps([0, 0, 0, 1, 2], ["a", "b", "a", "b", "a"], groups=["p", "p", "q"])
    assert not np.stack(rewardflow_values(steps, [0.0, 0.0, 0.0])).any()
    # No state is worth less than 0, but an end may be.
    lost = rewardflow_values(steps, [-1.0, -1.0, 1.0])
    assert lost.values.tolist() == [0.0, 0.0, 0.0, 0.0, 0.95]
    assert lost.next_values.tolist() == [0.0, 0.0, -1.0, -1.0, 1.0]
    # a and b lead to one another; without discount both are worth the success.
    won = rewardflow_values(steps, [1.0, 0.0, 0.0], gamma=1.0)
    assert won.values.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert won.next_values.tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]
    loop = Steps([0, 0], ["a", "a"], groups=[0])
    assert rewardflow_values(loop, [1.0], gamma=1.0).values.tolist() == [1.0, 1.0]
    assert not rewardflow(loop, [1.0], gamma=1.0, singleton="zero").any()


def test_what_a_last_step_earns():
    steps = Steps([0, 0, 1], ["a", "b", "b"], groups=[0, 0])
    zero = np.zeros(2)
    # V(b) = 0.5: last steps earn 1 - 0.5 and 0 - 0.5, or 1 and 0.
    assert rewardflow(steps, [1.0, 0.0], gamma=0.5, advantages=zero).tolist() == [0.0, 0.5, -0.5]
    assert rewardflow(steps, [1.0, 0.0], gamma=0.5, advantages=zero, last="reward").tolist() == [0.0, 0.5, -0.5]
    steps = Steps([0, 0], ["b", "b"], groups=[0])
    assert rewardflow(steps, [1.0], gamma=0.5, advantages=[0.0]).tolist() == [-0.25, 0.25]
    assert rewardflow(steps, [1.0], gamma=0.5, advantages=[0.0], last="reward").tolist() == [-0.5, 0.5]


def test_wrong_options():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    for call in (rewardflow, rewardflow_values):
        with pytest.raises(ValueError, match=rf"^{call.__name__}\(\): 'gamma' must be between 0 and 1, got -1"):
            call(steps, [1.0, 0.0], gamma=-1)
    with pytest.raises(ValueError, match=r"^rewardflow\(\): 'last' must be one of 'value', 'reward', got 'state'"):
        rewardflow(steps, [1.0, 0.0], last="state")
    with pytest.raises(ValueError, match=r"^rewardflow\(\): 'weight' must be finite, got nan"):
        rewardflow(steps, [1.0, 0.0], weight=np.nan)
