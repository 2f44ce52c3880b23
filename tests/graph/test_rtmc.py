"""graph.rtmc: the hand-checked vector, the oracle, and what its options mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Steps, ops
from rollmath.graph import rtmc

#: Options multiply.
MANY = settings(max_examples=max(200, settings().max_examples))


def test_the_vector_checked_by_hand(oracle, vectors):
    case = vectors("structured")["G1"]
    states, actions = oracle("graph_tables.py", "of_lines")(case["traj"])
    steps = Steps.from_episodes(states, actions, groups=[0] * 4)
    got = rtmc(steps, case["R"], gamma=0.95, n_prior=0.0)
    assert got.tolist() == pytest.approx([x for row in case["rtmc"] for x in row], abs=5.1e-7)


def test_the_prior_by_hand():
    steps = Steps([0, 1, 2], ["s"] * 3, ["l", "l", "r"], groups=[0] * 3)
    # V = 2/3, drawn by 2 visits of the mean 2/3 it stays; Q(l) = 1/2, Q(r) = 1.
    assert rtmc(steps, [1.0, 0.0, 1.0]).tolist() == pytest.approx([-1 / 6, -1 / 6, 1 / 3])
    # With another state the two differ: V(s) = (2 * 1/2 + 1 * 2/3) / 3 = 5/9.
    steps = Steps([0, 1, 2], ["s", "s", "u"], ["l", "r", "r"], groups=[0] * 3)
    assert rtmc(steps, [1.0, 0.0, 1.0], n_prior=1.0).tolist() == pytest.approx([4 / 9, -5 / 9, 1 - (1 + 2 / 3) / 2])


@MANY
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.sampled_from(["first", "every"]),
    st.sampled_from([0.0, 2.0, 0.7]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, gamma, visits, n_prior, dense, dtype):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn).astype(dtype)
    rows = drawn.rng.choice([0.0, 1.0, -0.5], len(drawn.state)) if dense else None
    options = {"gamma": gamma, "visits": visits, "n_prior": n_prior}
    steps = Steps(*columns, **given_too)
    got = rtmc(steps, None if dense else rewards, step_rewards=rows.astype(dtype) if dense else None, **options)
    expected = oracle("graph/rtmc.py", "rtmc")(
        drawn.table, rewards.tolist(), step_rewards=None if rows is None else rows.tolist(), **options
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(st.integers(0, 2**32), st.sampled_from(["first", "every"]))
def test_advantages_of_the_counted_visits_of_a_state_sum_to_zero(oracle, seed, visits):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    steps = Steps(*columns, **given_too)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn)
    got = rtmc(steps, rewards, visits=visits, n_prior=0.0)
    first = {}
    for row in np.lexsort((steps.position,)).tolist():
        key = (steps.trajectory_index[row], steps.state_index[row], steps.action_index[row])
        first.setdefault(key, row)
    counted = np.isin(np.arange(len(steps)), list(first.values())) if visits == "first" else None
    np.testing.assert_allclose(ops.segment_sum(got, steps.groups(by="state"), valid=counted), 0, atol=1e-9)


@given(st.integers(0, 2**32))
def test_shift_and_scale(oracle, seed):
    drawn = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(drawn)
    steps = Steps(*columns, **given_too)
    rewards = oracle("graph_tables.py", "draw_rewards")(drawn)
    got = rtmc(steps, rewards, gamma=1.0)
    np.testing.assert_allclose(rtmc(steps, rewards + 3, gamma=1.0), got, atol=1e-9)
    np.testing.assert_allclose(rtmc(steps, 7 * rewards, gamma=1.0), 7 * got, atol=1e-9)


def test_a_state_that_comes_again_counts_once_or_each_time():
    steps = Steps([0, 0, 0, 1], ["s", "s", "s", "s"], ["l", "l", "r", "r"], groups=[0, 0])
    # Returns 1/4, 1/2, 1 and 0; the second (s, l) of the first trajectory is no first visit.
    first = rtmc(steps, [1.0, 0.0], gamma=0.5, n_prior=0.0)
    assert first.tolist() == pytest.approx([0.25 - 1.25 / 3, 0.25 - 1.25 / 3, 0.5 - 1.25 / 3, 0.5 - 1.25 / 3])
    every = rtmc(steps, [1.0, 0.0], gamma=0.5, n_prior=0.0, visits="every")
    assert every.tolist() == pytest.approx([0.375 - 0.4375] * 2 + [0.5 - 0.4375] * 2)


def test_all_succeed_or_none():
    steps = Steps([0, 0, 1], ["a", "b", "a"], ["x", "y", "z"], groups=[0, 0])
    assert not rtmc(steps, [0.0, 0.0]).any()
    assert not rtmc(steps, [1.0, 1.0], gamma=1.0).any()


def test_wrong_options():
    steps = Steps([0, 0, 1], ["a", "b", "a"], ["x", "y", "z"], groups=[0, 0])
    with pytest.raises(ValueError, match=r"^rtmc\(\): 'visits' must be one of 'first', 'every', got 'last'"):
        rtmc(steps, [1.0, 0.0], visits="last")
    with pytest.raises(ValueError, match=r"^rtmc\(\): 'n_prior' must be finite and not negative, got -1"):
        rtmc(steps, [1.0, 0.0], n_prior=-1)
    with pytest.raises(ValueError, match=r"^rtmc\(\): 'gamma' must be between 0 and 1, got 1.5"):
        rtmc(steps, [1.0, 0.0], gamma=1.5)
    with pytest.raises(ValueError, match=r"^rtmc\(\): one of 'rewards' .* and 'step_rewards' .* got both"):
        rtmc(steps, [1.0, 0.0], step_rewards=[0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"^rtmc\(\): one of 'rewards' .* and 'step_rewards' .* got neither"):
        rtmc(steps, None)
    with pytest.raises(ValueError, match=r"^rtmc\(\): 'step_rewards' must have length 3"):
        rtmc(steps, None, step_rewards=[0.0, 1.0])
