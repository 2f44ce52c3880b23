"""graph.gigpo and its terms: hand vectors, the oracle, what the choices mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Steps
from rollmath.graph import gigpo, gigpo_episode, gigpo_step, step_returns

MANY = settings(max_examples=max(150, settings().max_examples))
SEEDS = st.integers(0, 2**32)
STATISTICS = ["trajectories", "step_rows"]


def build(table):
    return Steps(table["trajectory"], table["state"], table["action"], groups=table["groups"], step=table["step"])


@pytest.fixture
def g1(vectors):
    case = vectors("structured")["G1"]
    states, actions = ([[row.split()[i] for row in path] for path in case["traj"]] for i in (0, 1))
    return case, Steps.from_episodes(states, actions, groups=[0] * 4), [float(r) for r in case["R"]]


def flat(rows):
    return [x for row in rows for x in row]


def test_the_reference_graph(g1):
    case, steps, rewards = g1
    np.testing.assert_allclose(gigpo_step(steps, rewards), flat(case["gigpo_step_mean"]), atol=1e-6)
    np.testing.assert_allclose(gigpo_step(steps, rewards, scale="std"), flat(case["gigpo_step_std"]), atol=1e-6)
    # 6 of 13 steps are in trajectories that succeed.
    episode = gigpo_episode(steps, rewards, statistics="step_rows")
    np.testing.assert_allclose(episode, [7 / 13, -6 / 13, -6 / 13, 7 / 13], atol=1e-12)
    code = [
        [0.989712, 1.171795, 0.871795],
        [-0.912788, -0.778205, -0.936538],
        [-0.912788, -0.778205, -1.128205, -0.461538],
        [0.989712, 1.013462, 0.871795],
    ]
    np.testing.assert_allclose(gigpo(steps, rewards, statistics="step_rows"), flat(code), atol=1e-6)
    paper = [
        [1.732048, 2.020722, 1.443373],
        [-1.732048, -1.443373, -1.57313],
        [-1.732048, -1.443373, -2.020722, -0.866024],
        [1.732048, 1.57313, 1.443373],
    ]
    np.testing.assert_allclose(gigpo(steps, rewards, scale="std"), flat(paper), atol=1e-6)


@MANY
@given(
    SEEDS,
    st.sampled_from(["none", "std"]),
    st.sampled_from(STATISTICS),
    st.sampled_from(["raw", "zero"]),
    st.sampled_from(["rewards", "both", "step_rewards", "advantages"]),
    st.sampled_from([np.float64, np.float32]),
)
def test_against_the_oracle(oracle, tolerance, seed, scale, statistics, singleton, what, dtype):
    table = oracle("step_tables.py", "random_table")(seed)
    steps, rng = build(table), np.random.default_rng(seed)
    options = {"scale": scale, "statistics": statistics, "singleton": singleton, "weight": 0.75, "gamma": 0.9}
    rewards = rng.choice([0.0, 1.0, -0.3], steps.n_trajectories).astype(dtype)
    earned = rng.choice([0.0, 0.25, -0.1], len(steps)).astype(dtype)
    extra = rng.normal(size=steps.n_trajectories)
    step_rewards = None if what in {"rewards", "advantages"} else earned
    advantages = extra if what == "advantages" else None
    given_rewards = None if what == "step_rewards" else rewards
    got = gigpo(steps, given_rewards, step_rewards=step_rewards, advantages=advantages, **options)

    def by_id(x):
        return None if x is None else dict(zip(steps.trajectory_ids, x, strict=True))

    expected = oracle("graph/gigpo.py", "gigpo")(
        table, by_id(given_rewards), step_rewards=step_rewards, advantages=by_id(advantages), **options
    )
    assert got.dtype == dtype
    close = {"rtol": 1e-9, "atol": 1e-9} if dtype == np.float64 else tolerance("float32")
    np.testing.assert_allclose(got, expected, **close)


@given(SEEDS, st.sampled_from(["none", "std"]))
def test_the_terms_against_their_oracles(oracle, seed, scale):
    table = oracle("step_tables.py", "random_table")(seed)
    steps = build(table)
    rewards = np.random.default_rng(seed).choice([0.0, 1.0, 0.5], steps.n_trajectories)
    by_id = dict(zip(steps.trajectory_ids, rewards, strict=True))
    for statistics in STATISTICS:
        got = gigpo_episode(steps, rewards, scale=scale, statistics=statistics)
        expected = oracle("graph/gigpo.py", "gigpo_episode")(table, by_id, scale=scale, statistics=statistics)
        np.testing.assert_allclose(got, [expected[t] for t in steps.trajectory_ids], rtol=1e-9, atol=1e-9)
    step = gigpo_step(steps, rewards, scale=scale)
    expected = oracle("graph/gigpo.py", "gigpo_step")(table, by_id, scale=scale)
    np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(rm.ops.segment_sum(step, steps.groups(by="state")), 0, atol=1e-9)
    # The terms are the whole.
    episode = gigpo_episode(steps, rewards, scale=scale, statistics="step_rows")
    whole = gigpo(steps, rewards, scale=scale, statistics="step_rows", weight=0.5)
    np.testing.assert_array_equal(whole, steps.gather(episode) + 0.5 * step)


@given(SEEDS)
def test_the_episode_term_is_any_group_advantage(oracle, same_bits, seed):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).choice([0.0, 1.0, 0.5], steps.n_trajectories)
    groups = steps.trajectory_groups
    for scale, method in (("none", rm.group.dr_grpo), ("std", rm.group.grpo)):
        episode = method(rewards, groups, singleton="raw")
        same_bits(gigpo_episode(steps, rewards, scale=scale), episode)
        same_bits(gigpo(steps, rewards, scale=scale, advantages=episode), gigpo(steps, rewards, scale=scale))
    got = gigpo(steps, rewards, advantages=rm.group.rloo(rewards, groups))
    expected = steps.gather(rm.group.rloo(rewards, groups)) + gigpo_step(steps, rewards)
    np.testing.assert_array_equal(got, expected)


@given(SEEDS, st.sampled_from(STATISTICS))
def test_shift_and_scale(oracle, seed, statistics):
    steps = build(oracle("step_tables.py", "random_table")(seed))
    rewards = np.random.default_rng(seed).normal(size=steps.n_trajectories)
    free = {"scale": "std", "eps": 0.0, "statistics": statistics, "singleton": "zero"}
    np.testing.assert_allclose(gigpo(steps, 7 * rewards, **free), gigpo(steps, rewards, **free), atol=1e-7)
    episode = gigpo_episode(steps, rewards, **free)
    np.testing.assert_allclose(gigpo_episode(steps, rewards + 3, **free), episode, atol=1e-8)


def test_long_trajectories_dominate_statistics_over_rows():
    steps = Steps.from_lengths([9, 1], list("abcdefghij"), groups=[0, 0])
    assert gigpo(steps, [0.0, 1.0]).tolist() == [-0.5] * 9 + [0.5]
    assert gigpo(steps, [0.0, 1.0], statistics="step_rows").tolist() == pytest.approx([-0.1] * 9 + [0.9])
    # One trajectory of several steps is no group of one to the code.
    alone = Steps.from_lengths([2], ["a", "b"], groups=[0])
    assert gigpo(alone, [3.0]).tolist() == [3.0, 3.0]
    assert gigpo(alone, [3.0], statistics="step_rows").tolist() == [0.0, 0.0]
    assert gigpo(alone, [3.0], convention=rm.conventions.DEFAULT).tolist() == [0.0, 0.0]


def test_step_rewards_are_all_that_a_step_has_earned():
    steps = Steps.from_lengths([2, 2], ["a", "b", "a", "c"], groups=[0, 0])
    earned = [-0.5, 1.0, 0.0, 0.0]
    got = gigpo(steps, None, step_rewards=earned, gamma=0.5)
    # Returns 0, 1, 0, 0; totals 0.5 and 0.
    assert got.tolist() == [0.25, 0.25, -0.25, -0.25]
    assert gigpo(steps, [1.0, 0.0], step_rewards=earned, gamma=0.5).tolist() == [0.5, 0.5, -0.5, -0.5]
    np.testing.assert_array_equal(step_returns(steps, None, step_rewards=earned, gamma=0.5), [0, 1, 0, 0])


def test_equal_rewards_may_be_different_returns():
    steps = Steps.from_lengths([2, 1], ["a", "b", "a"], groups=[0, 0])
    assert gigpo(steps, [1.0, 1.0], gamma=0.5).tolist() == [-0.25, 0.0, 0.25]
    assert gigpo(steps, [1.0, 1.0], gamma=1.0).tolist() == [0.0, 0.0, 0.0]


def test_a_missing_advantage():
    steps = Steps.from_lengths([1, 1], ["a", "a"], groups=[0, 0])
    assert gigpo(steps, [1.0, 0.0], advantages=[np.nan, 2.0], nan="omit").tolist() == [0.5, 1.5]
    assert np.isnan(gigpo(steps, [1.0, 0.0], advantages=[np.nan, 2.0], nan="propagate")).tolist() == [True, False]


def test_trajectories_of_no_step():
    steps = Steps.from_lengths([1, 0, 1], ["a", "a"], groups=[0] * 3)
    # They take part in the statistics over trajectories, as their reward does.
    assert gigpo_episode(steps, [1.0, 4.0, 1.0]).tolist() == [-1.0, 2.0, -1.0]
    assert gigpo_episode(steps, [1.0, 4.0, 1.0], statistics="step_rows").tolist() == [0.0, 0.0, 0.0]
    assert gigpo(steps, None, step_rewards=[3.0, 0.0]).tolist() == [3.5, -2.5]


def test_states_are_those_of_a_task():
    same = Steps.from_lengths([1, 1], ["a", "a"], groups=["p", "q"])
    assert gigpo_step(same, [1.0, 0.0]).tolist() == [0, 0]
    # Canonical ids make one anchor of similar states.
    near = Steps.from_lengths([1, 1], rm.Groups([0, 0]), groups=["p", "p"])
    assert gigpo_step(near, [1.0, 0.0]).tolist() == [0.5, -0.5]


def test_policies():
    steps = Steps.from_lengths([1, 1, 1], ["a", "a", "b"], groups=["p", "p", "q"])
    alone = r"\(\): 'steps' has a {} with one valid member \(that of {}\); choose singleton="
    for statistics, of in (("trajectories", "trajectory 2"), ("step_rows", "row 2")):
        with pytest.raises(ValueError, match="^gigpo" + alone.format("task", of)):
            gigpo(steps, [1.0, 0.0, 1.0], singleton="raise", statistics=statistics)
    with pytest.raises(ValueError, match="^gigpo_step" + alone.format("state", "row 2")):
        gigpo_step(steps, [1.0, 0.0, 1.0], singleton="raise")
    with pytest.raises(ValueError, match=r"^gigpo\(\): 'steps' has a task without spread \(that of trajectory 0\)"):
        gigpo(steps, [1.0, 1.0, 1.0], scale="std", zero_spread="raise")
    rules = rm.conventions.GIGPO
    assert (rules["gigpo"].singleton, rules["gigpo_step"].singleton) == ("raw", "zero")
    assert rules.options["gigpo"] == {"statistics": "step_rows"}


def test_wrong_calls():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    for options, error, message in [
        ({"scale": "batch"}, ValueError, r"gigpo\(\): 'scale' must be one of 'none', 'std', got 'batch'"),
        (
            {"statistics": "rows"},
            ValueError,
            r"gigpo\(\): 'statistics' must be one of 'trajectories', 'step_rows', got",
        ),
        ({"weight": np.inf}, ValueError, r"gigpo\(\): 'weight' must be finite, got inf"),
        ({"weight": True}, TypeError, r"gigpo\(\): 'weight' must be a number, got True"),
        ({"advantages": [1.0]}, ValueError, r"gigpo\(\): 'advantages' must have length 2 \(= steps.n_trajectories\)"),
        (
            {"advantages": [1.0, np.nan]},
            ValueError,
            r"gigpo\(\): 'advantages' must be finite, got nan at index 1; take",
        ),
        ({"convention": rm.conventions.HGPO}, ValueError, r"HGPO.* has no convention for 'gigpo'"),
    ]:
        with pytest.raises(error, match=message):
            gigpo(steps, [1.0, 0.0], **options)
    with pytest.raises(ValueError, match=r"gigpo_episode\(\): 'scale' must be one of"):
        gigpo_episode(steps, [1.0, 0.0], scale="x")
    with pytest.raises(ValueError, match=r"gigpo_episode\(\): 'statistics' must be one of"):
        gigpo_episode(steps, [1.0, 0.0], statistics="x")
    with pytest.raises(ValueError, match=r"gigpo_episode\(\): 'rewards' must be finite, got inf at index 1"):
        gigpo_episode(steps, [1.0, np.inf])
    with pytest.raises(ValueError, match=r"gigpo_step\(\): 'scale' must be one of"):
        gigpo_step(steps, [1.0, 0.0], scale="x")
