"""graph.step_reinforce: the oracle, and what its baselines are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps
from rollmath.graph import gigpo_step, step_reinforce, step_returns

SEEDS = st.integers(0, 2**32)
BASELINES = ["none", "task", "position", "state"]


def build(table):
    return Steps(table["trajectory"], table["state"], table["action"], groups=table["groups"], step=table["step"])


@given(
    SEEDS,
    st.sampled_from(BASELINES),
    st.booleans(),
    st.sampled_from(["zero", "raw", "nan"]),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, baseline, leave_one_out, singleton, dtype):
    table = oracle("step_tables.py", "random_table")(seed)
    steps = build(table)
    rewards = np.random.default_rng(seed).normal(size=steps.n_trajectories).astype(dtype)
    options = {"gamma": 0.9, "baseline": baseline, "leave_one_out": leave_one_out, "singleton": singleton}
    got = step_reinforce(steps, rewards, **options)
    by_id = dict(zip(steps.trajectory_ids, rewards, strict=True))
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, oracle("graph/step_reinforce.py", "step_reinforce")(table, by_id, **options), **tolerance(dtype.__name__)
    )


@given(SEEDS, st.sampled_from(["task", "position", "state"]), st.booleans())
def test_shift_and_scale(oracle, seed, baseline, leave_one_out):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).normal(size=steps.n_trajectories)
    options = {"baseline": baseline, "leave_one_out": leave_one_out}
    once = step_reinforce(steps, rewards, **options)
    np.testing.assert_allclose(step_reinforce(steps, 3 * rewards + 1e6, **options), 3 * once, atol=1e-8)


def test_what_the_baselines_are(same_bits, oracle):
    steps = build(oracle("step_tables.py", "random_table")(3))
    rewards = np.arange(steps.n_trajectories) / 4
    same_bits(step_reinforce(steps, rewards, baseline="none", gamma=0.9), step_returns(steps, rewards, gamma=0.9))
    same_bits(step_reinforce(steps, rewards, baseline="state", gamma=0.9), gigpo_step(steps, rewards, gamma=0.9))


def test_leave_one_out_is_unbiased_where_the_policy_chooses_when_to_stop():
    """Two trajectories; a step stops with probability p, a stop pays its number. The exact gradient of the mean return.

    All pairs of trajectories of up to three steps are summed up, each with its probability.
    """
    p, pays, longest = 0.3, [1.0, 5.0, 2.0], 3

    def probability(n):
        return (1 - p) ** (n - 1) * (p if n < longest else 1.0)

    def score(t, n):  # d log pi / d p of the choice at step t
        return 0.0 if t == longest - 1 else (1 / p if t == n - 1 else -1 / (1 - p))

    h = 1e-6
    lengths = range(1, longest + 1)

    def value(q):
        return sum((1 - q) ** (n - 1) * (q if n < longest else 1.0) * pays[n - 1] for n in lengths)

    truth = (value(p + h) - value(p - h)) / (2 * h)

    def estimate(**options):
        total = 0.0
        for n, m in itertools.product(lengths, lengths):
            steps = Steps.from_lengths([n, m], ["s"] * (n + m), groups=[0, 0])
            a = step_reinforce(steps, [pays[n - 1], pays[m - 1]], **options)
            scores = [score(t, n) for t in range(n)] + [score(t, m) for t in range(m)]
            total += probability(n) * probability(m) * float(np.dot(a, scores)) / 2
        return total

    for baseline in ("task", "position", "state"):
        unbiased = estimate(baseline=baseline, leave_one_out=True, singleton="raw")
        assert unbiased == pytest.approx(truth, rel=1e-6), baseline
    assert estimate(baseline="none") == pytest.approx(truth, rel=1e-6)
    # With one's own return in the mean it is another gradient, and not one that differs by a factor of 1/2 alone.
    assert abs(estimate(baseline="position") - truth / 2) > 0.01


def test_returns_come_before_the_baseline():
    # Every step pays 1. Centred turn by turn, rewards say nothing about going on; returns do.
    steps = Steps.from_lengths([3, 1], ["s"] * 4, groups=[0, 0])
    by_turn = step_reinforce(steps, None, step_rewards=[1.0] * 4, gamma=0.0, baseline="position")
    assert step_returns(steps, None, step_rewards=by_turn).tolist() == [0, 0, 0, 0]
    got = step_reinforce(steps, None, step_rewards=[1.0] * 4, baseline="position", leave_one_out=True, singleton="raw")
    assert got.tolist() == [2.0, 2.0, 1.0, -2.0]


def test_lone_rows():
    steps = Steps.from_lengths([3, 1], ["a", "b", "b", "a"], groups=[0, 0])
    options = {"baseline": "state", "leave_one_out": True, "gamma": 0.5}
    # State b belongs to one trajectory, twice.
    assert step_reinforce(steps, [4.0, 2.0], **options).tolist() == [-1.0, 0.0, 0.0, 1.0]
    assert step_reinforce(steps, [4.0, 2.0], **options, singleton="raw").tolist() == [-1.0, 2.0, 4.0, 1.0]
    with pytest.raises(
        ValueError,
        match=r"^step_reinforce\(\): 'steps' has a state with rows of one trajectory alone \(that of row 1\)",
    ):
        step_reinforce(steps, [4.0, 2.0], **options, singleton="raise")
    with pytest.raises(
        ValueError, match=r"^step_reinforce\(\): 'steps' has a position with one valid member \(that of row 1\)"
    ):
        step_reinforce(steps, [4.0, 2.0], baseline="position", singleton="raise")
    assert step_reinforce(steps, [4.0, np.nan], baseline="none", nan="omit").tolist() == [4.0, 4.0, 4.0, 0.0]


def test_wrong_calls():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    with pytest.raises(
        ValueError,
        match=r"step_reinforce\(\): 'baseline' must be one of 'none', 'task', 'position', 'state', got 'turn'",
    ):
        step_reinforce(steps, [1.0, 0.0], baseline="turn")
    with pytest.raises(TypeError, match=r"step_reinforce\(\): 'leave_one_out' must be True or False, got 1"):
        step_reinforce(steps, [1.0, 0.0], leave_one_out=1)
