"""graph.hgpo: hand vectors, the oracle, what levels and zeros mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Steps
from rollmath.graph import gigpo_step, hgpo

MANY = settings(max_examples=max(150, settings().max_examples))
SEEDS = st.integers(0, 2**32)


def build(table):
    return Steps(table["trajectory"], table["state"], table["action"], groups=table["groups"], step=table["step"])


def test_the_reference_graph(vectors):
    case = vectors("structured")["G1"]
    states, actions = ([[row.split()[i] for row in path] for path in case["traj"]] for i in (0, 1))
    steps, rewards = Steps.from_episodes(states, actions, groups=[0] * 4), [float(r) for r in case["R"]]

    def check(expected, **options):
        np.testing.assert_allclose(hgpo(steps, rewards, history=1, **options), np.concatenate(expected), atol=1e-6)

    check(case["hgpo_K1_mean"], scale="none")
    std = [
        [0.999997, 1.41421, 0.882841],
        [-0.999997, -0.707105, -0.999997],
        [-0.999997, -0.707105, -1.165683, 0],
        [0.999997, 0.999997, 0.707105],
    ]
    check(std)
    # Weights 1 and 2, as an early version had them, change the two steps that have two levels.
    early = [row.copy() for row in case["hgpo_K1_mean"]]
    early[0][2], early[2][2] = (1 / 3 + 2 * 0.5) / 3, (-2 / 3 - 2 * 0.5) / 3
    check(early, scale="none", offset=0.0)


@MANY
@given(
    SEEDS,
    st.sampled_from([0, 1, 2, 9]),
    st.sampled_from([(1.0, 1.0), (0.0, 1.0), (2.5, 0.0), (1.0, 0.5)]),
    st.sampled_from(["none", "std"]),
    st.sampled_from(["exclude", "count"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, history, weights, scale, zeros, base, per_step, dtype):
    table = oracle("step_tables.py", "random_table")(seed)
    steps, rng = build(table), np.random.default_rng(seed)
    # Halves of halves, so that both agree on what is exactly 0.
    rewards = rng.integers(-2, 3, steps.n_trajectories) / 2
    earned = rng.integers(-1, 2, len(steps)) / 2
    advantages = rng.integers(-1, 2, steps.n_trajectories) / 2
    options = {
        "history": history,
        "alpha": weights[0],
        "offset": weights[1],
        "scale": scale,
        "zeros": zeros,
        "gamma": 0.5,
    }

    def by_id(x):
        return dict(zip(steps.trajectory_ids, x, strict=True))

    got = hgpo(
        steps,
        None if per_step else rewards.astype(dtype),
        step_rewards=earned.astype(dtype) if per_step else None,
        advantages=advantages if base else None,
        **options,
    )
    expected = oracle("graph/hgpo.py", "hgpo")(
        table,
        None if per_step else by_id(rewards),
        step_rewards=earned if per_step else None,
        advantages=by_id(advantages) if base else None,
        **options,
    )
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, **tolerance(dtype.__name__))


@given(SEEDS)
def test_one_level_is_the_step_term_of_gigpo(oracle, seed):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).normal(size=steps.n_trajectories)
    for scale in ("none", "std"):
        got = hgpo(steps, rewards, history=0, scale=scale, ddof=1, eps=0.0)
        np.testing.assert_allclose(got, gigpo_step(steps, rewards, scale=scale, eps=0.0), atol=1e-12)


@given(SEEDS)
def test_history_beyond_the_longest_trajectory_changes_nothing(oracle, same_bits, seed):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).normal(size=steps.n_trajectories)
    same_bits(hgpo(steps, rewards, history=10**9), hgpo(steps, rewards, history=7))


@given(SEEDS)
def test_shift_and_scale(oracle, seed):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).integers(0, 2, steps.n_trajectories) / 1.0
    free = {"eps": 0.0, "gamma": 1.0}
    np.testing.assert_allclose(hgpo(steps, 4 * rewards + 8, **free), hgpo(steps, rewards, **free), atol=1e-9)


def test_zeros():
    # Of the three in state b, the middle return is the mean; with the same past, it is the better of two.
    steps = Steps.from_lengths([2, 2, 2], ["a", "b", "a", "b", "c", "b"], groups=[0] * 3)
    options = {"history": 1, "scale": "none", "gamma": 0.0, "eps": 0.0}
    rewards = [1.0, 0.0, 2.0]
    assert hgpo(steps, rewards, **options)[1] == 0.5
    assert hgpo(steps, rewards, **options, zeros="count")[1] == pytest.approx((2 * 0 + 3 * 0.5) / 5)
    # Only levels that are shared count in either.
    assert hgpo(steps, rewards, **options, zeros="count")[5] == 1.0
    assert not hgpo(steps, [0.1, 0.1, 0.1]).any()


def test_a_base_level():
    steps = Steps.from_lengths([1, 1, 1], ["a", "a", "b"], groups=[0] * 3)
    options = {"scale": "none", "eps": 0.0, "advantages": [0.5, 0.0, -3.0]}
    # Weights 1 and 2; a base of 0 is no evidence.
    assert hgpo(steps, [1.0, 0.0, 0.0], **options).tolist() == [(0.5 + 2 * 0.5) / 3, -0.5, -3.0]
    assert hgpo(steps, [1.0, 0.0, 0.0], **options, zeros="count").tolist() == pytest.approx([0.5, -1 / 3, -3.0])
    # Without a weight of its own it has no say.
    assert hgpo(steps, [1.0, 0.0, 0.0], **options, offset=0.0).tolist() == [0.5, -0.5, 0.0]


def test_missing_base():
    steps = Steps.from_lengths([1, 1, 1], ["a", "a", "b"], groups=[0] * 3)
    options = {"scale": "none", "eps": 0.0, "advantages": [np.nan, 1.0, 1.0]}
    assert hgpo(steps, [1.0, 0.0, 0.0], **options, nan="omit").tolist() == [0.5, 0.0, 1.0]
    assert np.isnan(hgpo(steps, [1.0, 0.0, 0.0], **options, nan="propagate")).tolist() == [True, False, False]
    with pytest.raises(ValueError, match=r"hgpo\(\): 'advantages' must be finite, got nan at index 0"):
        hgpo(steps, [1.0, 0.0, 0.0], **options)


def test_wrong_calls():
    steps = Steps([0, 0, 1, 1], ["a", "b", "a", "b"], groups=[0, 0])
    for options, error, message in [
        ({"scale": "batch"}, ValueError, r"'scale' must be one of 'none', 'std', got 'batch'"),
        ({"zeros": "drop"}, ValueError, r"'zeros' must be one of 'exclude', 'count', got 'drop'"),
        ({"history": -1}, ValueError, r"'history' must be at least 0, got -1"),
        ({"history": None}, TypeError, r"'history' must be a whole number"),
        ({"alpha": -1.0}, ValueError, r"'alpha' must be finite and not negative, got -1"),
        ({"alpha": 1e4}, ValueError, r"'alpha' must leave the weights finite, got 10000 with 2 levels"),
        ({"offset": np.nan}, ValueError, r"'offset' must be finite and not negative, got nan"),
        ({"advantages": [1.0]}, ValueError, r"'advantages' must have length 2 \(= steps.n_trajectories\), got 1"),
        ({"zero_spread": "raise"}, ValueError, r"'steps' has a level without spread \(that of row 0\); choose"),
        ({"convention": rm.conventions.GIGPO}, ValueError, r"GIGPO.* has no convention for 'hgpo'"),
    ]:
        with pytest.raises(error, match=rf"^hgpo\(\): .*{message}"):
            hgpo(steps, [1.0, 1.0], **options)
