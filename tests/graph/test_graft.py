"""graph.graft: vectors, the oracle in fractions, and why Graph GAE adds nothing to the graph's own values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollmath import Steps, ops
from rollmath.graph import graft, graft_values

#: Options multiply.
MANY = settings(max_examples=max(150, settings().max_examples))


def g1(oracle, vectors):
    case = vectors("structured")["G1"]
    states, actions = oracle("graph_tables.py", "of_lines")(case["traj"])
    return case, Steps.from_episodes(states, actions, groups=[0] * 4)


def drawn(oracle, seed, *, next_state=False):
    made = oracle("graph_tables.py", "draw")(seed)
    columns, given_too = oracle("graph_tables.py", "columns")(made, next_state=next_state)
    return made, Steps(*columns, **given_too), oracle("graph_tables.py", "draw_rewards")(made)


def test_the_vectors_checked_by_hand(oracle, vectors):
    case, steps = g1(oracle, vectors)
    values = graft_values(steps, case["R"]).values
    states = [line.split()[0] for lines in case["traj"] for line in lines]
    assert values.tolist() == pytest.approx([case["graft_V"][s] for s in states], abs=5.1e-7)
    got = graft(steps, case["R"], scale="none")
    assert got.tolist() == pytest.approx([x for row in case["graft_A"] for x in row], abs=5.1e-7)
    # By hand from those: three steps d, d, -2 d from a state have the standard deviation sqrt(3) d, so they become
    # 1 / sqrt(3), 1 / sqrt(3), -2 / sqrt(3); d, d, d, -3 d have 2 d; d, -d have sqrt(2) d; s4 has one step of 0.
    third, half = 1 / np.sqrt(3), 1 / np.sqrt(2)
    expected = [0.5, third, third, 0.5, -2 * third, -half, 0.5, third, -2 * third, 0, -1.5, half, third]
    assert graft(steps, case["R"], eps=0.0).tolist() == pytest.approx(expected, abs=1e-9)


def test_a_cycle_by_hand():
    # a -> b -> a -> b -> end with reward 1: V(a) = g V(b), V(b) = (g V(a) + g) / 2, so V(b) = g / (2 - g^2).
    steps = Steps([0] * 4, list("abab"), groups=[0])
    g = 0.9
    b = g / (2 - g * g)
    assert graft_values(steps, [1.0], gamma=g).values.tolist() == pytest.approx([g * b, b, g * b, b])
    assert graft_values(steps, [1.0], gamma=1.0).values.tolist() == pytest.approx([1.0] * 4)
    # A self-loop: V = (g V + g R) / 2.
    assert graft_values(Steps([0, 0], ["a", "a"], groups=[0]), [1.0], gamma=g).values[0] == pytest.approx(g / (2 - g))


@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.booleans(),
    st.sampled_from([np.float64, np.float32]),
)
def test_values_against_the_oracle(oracle, tolerance, seed, gamma, cut, dtype):
    made, steps, rewards = drawn(oracle, seed, next_state=cut)
    rewards = rewards.astype(dtype)
    truncated = made.rng.random(len(rewards)) < 0.4 if cut else None
    got = graft_values(steps, rewards, gamma=gamma, truncated=truncated)
    expected = oracle("graph/graft.py", "graft_values")(made.table, rewards.tolist(), gamma=gamma, truncated=truncated)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, **tolerance(dtype.__name__))


@MANY
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.5, 0.99, 1.0]),
    st.sampled_from([None, 0.0, 0.8, 1.0]),
    st.sampled_from(["std", "none"]),
    st.sampled_from(["abs", "raw", "zero"]),
    st.booleans(),
    st.booleans(),
)
def test_against_the_oracle(oracle, tolerance, seed, gamma, lam, scale, singleton, own, cut):
    made, steps, rewards = drawn(oracle, seed, next_state=cut)
    # An eps of a hundredth, so that little hangs on whether numbers that are equal by the formula are so to the bit.
    options = {"gamma": gamma, "lam": lam, "scale": scale, "singleton": singleton, "eps": 0.01}
    options["truncated"] = made.rng.random(len(rewards)) < 0.4 if cut else None
    values = None if own else made.rng.normal(size=len(steps))
    got = graft(steps, rewards, values=values, **options)
    expected = oracle("graph/graft.py", "graft")(made.table, rewards.tolist(), values=values, **options)
    np.testing.assert_allclose(got, expected, **tolerance("float64"))


@given(st.integers(0, 2**32), st.sampled_from([0.5, 0.99, 1.0]), st.sampled_from([0.5, 0.95, 1.0]))
def test_graph_gae_adds_nothing_to_the_values_of_the_graph(oracle, seed, gamma, lam):
    made, steps, rewards = drawn(oracle, seed)
    plain = graft(steps, rewards, gamma=gamma, scale="none")
    # Over the steps from a state gamma V(s') - V(s) has the mean 0, so every mean over whole states has.
    np.testing.assert_allclose(ops.segment_mean(plain, steps.groups(by="state")), 0, atol=1e-9)
    own = graft_values(steps, rewards, gamma=gamma).values
    gae = graft(steps, rewards, gamma=gamma, lam=lam, values=own, scale="none")
    np.testing.assert_allclose(gae, plain, atol=1e-9)
    by_sets = oracle("graph/graft.py", "graft")(made.table, rewards.tolist(), gamma=gamma, lam=lam, scale="none")
    np.testing.assert_allclose(by_sets, plain, atol=1e-9)
    # To other values it does: those of the states times a half, on a path of two steps.
    path = Steps([0, 0], ["a", "b"], groups=[0])
    assert graft(path, [1.0], gamma=1.0, lam=1.0, values=[0.25, 0.5], scale="none").tolist() == [0.75, 0.5]
    assert graft(path, [1.0], gamma=1.0, lam=0.0, values=[0.25, 0.5], scale="none").tolist() == [0.25, 0.5]


def test_on_a_path_graph_gae_is_gae():
    rng = np.random.default_rng(0)
    values, n = rng.normal(size=6), 6
    steps = Steps([0] * n, range(n), groups=[0])
    got = graft(steps, [2.0], gamma=0.9, lam=0.7, values=values, scale="none")
    ahead = 0.9 * np.append(values[1:], 2.0) - values
    expected = [sum((0.9 * 0.7) ** (j - i) * ahead[j] for j in range(i, n)) for i in range(n)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


@given(st.integers(0, 2**32))
def test_shift_and_scale(oracle, seed):
    _, steps, rewards = drawn(oracle, seed)
    plain = graft(steps, rewards, gamma=1.0, scale="none")
    np.testing.assert_allclose(graft(steps, rewards + 3, gamma=1.0, scale="none"), plain, atol=1e-9)
    np.testing.assert_allclose(graft(steps, 7 * rewards, gamma=1.0, scale="none"), 7 * plain, atol=1e-9)


def test_values_of_a_critic_and_lone_steps():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    # V(a) = (1 + 3) / 2 = 2, V(b) = 5: from a lead 5 - 2 and 0 - 2, from b 1 - 5, a lone step.
    got = graft(steps, [1.0, 0.0], gamma=1.0, values=[1.0, 5.0, 3.0], scale="none")
    assert got.tolist() == [3.0, -4.0, -2.0]
    for singleton, lone in {"abs": -4 / (4 + 1e-6), "raw": -4 / (1 + 1e-6), "zero": 0.0}.items():
        got = graft(steps, [1.0, 0.0], gamma=1.0, values=[1.0, 5.0, 3.0], singleton=singleton)
        assert got[1] == pytest.approx(lone)
    # The graph's own value of a state that is left in one way alone is that of the way.
    assert graft(steps, [1.0, 0.0])[1] == 0


def test_on_a_line_graph_gae_is_gae():
    n, rng = 200, np.random.default_rng(0)
    values, reward = rng.normal(size=n), 2.0
    delta = 0.9 * np.append(values[1:], reward) - values
    expected = np.zeros(n + 1)
    for t in reversed(range(n)):
        expected[t] = delta[t] + 0.9 * 0.8 * expected[t + 1]
    # Tasks of any size, the later part of the same line each.
    lengths = [n, 1, n - 1, 2]
    steps = Steps.from_lengths(lengths, [k for size in lengths for k in range(size)], groups=list("pqrs"))
    given_values = np.concatenate([values[-size:] for size in lengths])
    got = graft(steps, [reward] * 4, gamma=0.9, lam=0.8, values=given_values, scale="none")
    np.testing.assert_allclose(got, np.concatenate([expected[n - size : n] for size in lengths]), atol=1e-12)


def test_all_succeed_none_does_and_a_state_without_a_way_out():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0], next_state=["b", "end", "c"])
    assert not graft(steps, [0.0, 0.0]).any()
    assert not graft(steps, [1.0, 1.0], gamma=1.0).any()
    # c is known and was never left: worth 0.
    values = graft_values(steps, [1.0, 1.0], gamma=1.0, truncated=[False, True])
    assert [values.values.tolist(), values.next_values.tolist()] == [[0.5, 1.0, 0.5], [1.0, 1.0, 0.0]]
    # Nothing ends at all: a self-loop that was cut off.
    loop = Steps([0, 0], ["a", "a"], groups=[0], next_state=["a", "a"])
    assert graft_values(loop, [1.0], gamma=1.0, truncated=[True]).values.tolist() == [0.0, 0.0]
    given = {"gamma": 0.5, "values": [1.0, 1.0], "truncated": [True], "scale": "none"}
    assert graft(loop, [1.0], lam=1.0, **given).tolist() == [-0.75, -0.5]


def test_wrong_options():
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    for call in (graft, graft_values):
        with pytest.raises(ValueError, match=rf"^{call.__name__}\(\): 'gamma' must be between 0 and 1, got -1"):
            call(steps, [1.0, 0.0], gamma=-1)
    with pytest.raises(ValueError, match=r"^graft\(\): 'lam' must be between 0 and 1, got 2"):
        graft(steps, [1.0, 0.0], lam=2)
    with pytest.raises(ValueError, match=r"^graft\(\): 'values' must have length 3 \(= the number of rows\), got 2"):
        graft(steps, [1.0, 0.0], values=[1.0, 0.0])
    with pytest.raises(ValueError, match=r"^graft\(\): 'values' must be finite, got nan at index 1"):
        graft(steps, [1.0, 0.0], values=[1.0, np.nan, 0.0])
