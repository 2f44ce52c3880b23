"""graph.step_returns and graph.segment_returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps
from rollmath.graph import segment_returns, step_returns

SEEDS = st.integers(0, 2**32)


def build(table):
    return Steps(table["trajectory"], table["state"], table["action"], groups=table["groups"], step=table["step"])


def runs(oracle, table, seed):
    """Segment ids that stay for some steps, the same in all trajectories."""
    draw, out = np.random.default_rng(seed), [None] * len(table["step"])
    for path in oracle("step_tables.py", "paths")(table["trajectory"], table["step"]).values():
        for number, row in zip(np.cumsum(draw.random(len(path)) < 0.5), path, strict=True):
            out[row] = f"turn {number}"
    return out


def draw(oracle, seed):
    table = oracle("step_tables.py", "random_table")(seed)
    steps, rng = build(table), np.random.default_rng(seed)
    rewards, earned = rng.normal(size=steps.n_trajectories), rng.normal(size=len(steps))
    by_id = dict(zip(steps.trajectory_ids, rewards, strict=True))
    return table, steps, (rewards, by_id), earned


@given(SEEDS, st.sampled_from([1.0, 0.95, 0.5, 0.0]))
def test_against_the_oracle(oracle, tolerance, seed, gamma):
    table, steps, (rewards, by_id), earned = draw(oracle, seed)
    expected = oracle("graph/step_returns.py", "step_returns")
    place = (table["trajectory"], table["step"])
    np.testing.assert_allclose(
        step_returns(steps, rewards, gamma=gamma), expected(*place, rewards=by_id, gamma=gamma), **tolerance("float64")
    )
    np.testing.assert_allclose(
        step_returns(steps, None, step_rewards=earned, gamma=gamma),
        expected(*place, step_rewards=earned, gamma=gamma),
        **tolerance("float64"),
    )


@given(SEEDS, st.sampled_from([1.0, 0.9, 0.0]), st.sampled_from(["step", "segment"]))
def test_segments_against_the_oracle(oracle, tolerance, same_bits, seed, gamma, discount):
    table, steps, (rewards, by_id), earned = draw(oracle, seed)
    segments = runs(oracle, table, seed)
    options = {"gamma": gamma, "discount": discount}
    for got, given_rewards in [
        (segment_returns(steps, segments, rewards, **options), {"rewards": by_id}),
        (segment_returns(steps, segments, None, step_rewards=earned, **options), {"step_rewards": earned}),
    ]:
        expected = oracle("graph/step_returns.py", "segment_returns")(
            table["trajectory"], table["step"], segments, **given_rewards, **options
        )
        np.testing.assert_allclose(got, expected, **tolerance("float64"))
    # One step a segment, and one segment a trajectory.
    same_bits(
        segment_returns(steps, np.arange(len(steps)), rewards, **options), step_returns(steps, rewards, gamma=gamma)
    )
    first = steps.order[steps.offsets[:-1]][steps.trajectory_index]
    whole = segment_returns(steps, [0] * len(steps), rewards, gamma=gamma)
    same_bits(whole, step_returns(steps, rewards, gamma=gamma)[first])


@given(SEEDS)
def test_without_a_discount_both_discounts_agree(oracle, seed):
    table, steps, _, earned = draw(oracle, seed)
    segments = runs(oracle, table, seed)
    by_step, by_segment = (
        segment_returns(steps, segments, None, step_rewards=earned, discount=how) for how in ("step", "segment")
    )
    np.testing.assert_allclose(by_step, by_segment, atol=1e-12)


def test_by_hand():
    steps = Steps.from_lengths([4, 0, 1], list("abcda"), groups=[0] * 3)
    assert step_returns(steps, [8.0, 5.0, 1.0], gamma=0.5).tolist() == [1, 2, 4, 8, 1]
    assert step_returns(steps, None, step_rewards=[1.0, 0, 0, 8, 2], gamma=0.5).tolist() == [2, 2, 4, 8, 2]
    turns = [0, 0, 1, 1, 0]
    assert segment_returns(steps, turns, [8.0, 5.0, 1.0], gamma=0.5).tolist() == [1, 1, 4, 4, 1]
    assert segment_returns(steps, turns, [8.0, 5.0, 1.0], gamma=0.5, discount="segment").tolist() == [4, 4, 8, 8, 1]
    assert segment_returns(Steps([], [], groups=[]), [], []).shape == (0,)
    np.testing.assert_array_equal(segment_returns(steps, turns, np.ones(3, "f4")), np.ones(5, "f4"))


def test_wrong_calls():
    steps = Steps(["t", "u", "t", "t"], ["a", "b", "a", "b"], groups=[0, 0], step=[0, 0, 2, 1])
    with pytest.raises(
        ValueError,
        match=r"^segment_returns\(\): 'segments' must be runs of steps, but 'x' of trajectory 't' goes on at row 2 "
        r"after another segment; number segments that come back anew",
    ):
        segment_returns(steps, ["x", "x", "x", "y"], [1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"segment_returns\(\): 'segments' must have length 4 \(= the number of rows\)"
    ):
        segment_returns(steps, ["x", "y"], [1.0, 0.0])
    with pytest.raises(
        ValueError, match=r"segment_returns\(\): 'discount' must be one of 'step', 'segment', got 'turn'"
    ):
        segment_returns(steps, [0, 0, 1, 0], [1.0, 0.0], discount="turn")
    with pytest.raises(ValueError, match=r"segment_returns\(\): 'gamma' must be between 0 and 1, got 2"):
        segment_returns(steps, [0, 0, 1, 0], [1.0, 0.0], gamma=2.0)
    with pytest.raises(ValueError, match=r"segment_returns\(\): one of 'rewards' .* got both"):
        segment_returns(steps, [0, 0, 1, 0], [1.0, 0.0], step_rewards=[1.0] * 4)
    with pytest.raises(TypeError, match=r"segment_returns\(\): 'steps' must be a rollmath.Steps"):
        segment_returns([0], [0], [1.0])
    for bad in (np.nan, np.inf):
        with pytest.raises(
            ValueError, match=r"^step_returns\(\): 'rewards' must be finite, got .* with steps.take\(keep\)$"
        ):
            step_returns(steps, [bad, 0.0])
