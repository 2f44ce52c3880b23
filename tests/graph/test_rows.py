"""What all methods on steps have in common: laws of rows and tasks, kinds, degenerate tables, wrong calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Steps, graph

#: Every method that takes one number a trajectory, with options that leave nothing out.
CALLS = {
    "gigpo": lambda s, r, **k: graph.gigpo(s, r, scale="std", **k),
    "gigpo_rows": lambda s, r, **k: graph.gigpo(s, r, statistics="step_rows", **k),
    "gigpo_step": lambda s, r, **k: graph.gigpo_step(s, r, scale="std", **k),
    "hgpo": lambda s, r, **k: graph.hgpo(s, r, history=3, gamma=1.0, **k),
    "hgpo_none": lambda s, r, **k: graph.hgpo(s, r, scale="none", zeros="count", **k),
    "salt": lambda s, r, **k: graph.salt(s, r, history=1, **k),
    "salt_task": lambda s, r, **k: graph.salt(s, r, count="trajectory", renormalise="task", **k),
    "step_reinforce": lambda s, r, **k: graph.step_reinforce(s, r, gamma=0.5, leave_one_out=True, **k),
    "step_reinforce_position": lambda s, r, **k: graph.step_reinforce(s, r, baseline="position", **k),
    "step_reinforce_state": lambda s, r, **k: graph.step_reinforce(s, r, baseline="state", leave_one_out=True, **k),
    "step_returns": lambda s, r: graph.step_returns(s, r, gamma=0.5),
    "segment_returns": lambda s, r: graph.segment_returns(s, pairs(s), r, gamma=0.5, discount="segment"),
}
STANDARD = {name: call for name, call in CALLS.items() if "returns" not in name}
calls = pytest.mark.parametrize("name", CALLS)
SEEDS = st.integers(0, 2**32)


def pairs(steps):
    """Segments of two steps each."""
    return steps.position // 2 if isinstance(steps, Steps) else []


def outcome(steps, dtype=np.float64):
    """A reward of each trajectory that hangs on its id alone; some are equal, whole tasks too."""
    value = {t: (sum(map(ord, t)) % 7 - 3) / 3 * (t[1] != "1") for t in steps.trajectory_ids}
    return np.array([value[t] for t in steps.trajectory_ids], dtype)


@calls
@given(SEEDS)
def test_rows_in_another_order_get_the_same_bits(oracle, same_bits, name, seed):
    oracle("step_laws.py", "rows_in_another_order")(CALLS[name], outcome, same_bits, seed)


@calls
@given(SEEDS)
def test_other_names_and_other_tasks_change_no_bit(oracle, same_bits, name, seed):
    oracle("step_laws.py", "other_names_and_tasks")(CALLS[name], outcome, same_bits, same_bits, seed)


@pytest.mark.parametrize("name", STANDARD)
@given(SEEDS)
def test_equal_rewards_of_steps_that_end_at_once_are_no_evidence(oracle, name, seed):
    table = oracle("step_tables.py", "random_table")(seed)
    first = {t: i for i, t in reversed(list(enumerate(table["trajectory"])))}
    table = {key: [column[i] for i in first.values()] for key, column in table.items()}
    table["state"] = ["a"] * len(first)
    steps = oracle("step_laws.py", "build")(table)
    if name == "salt":
        assert (CALLS[name](steps, np.full(len(first), 0.1)) == 0.1).all()
    else:
        assert not CALLS[name](steps, np.full(len(first), 0.1), singleton="zero").any()


@calls
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_kinds(oracle, name, dtype):
    oracle("step_laws.py", "kinds")(CALLS[name], dtype, pytest.importorskip("torch"))


@calls
@pytest.mark.filterwarnings("error")
def test_no_rows_lone_rows_and_trajectories_of_no_step(name):
    assert CALLS[name](Steps([], [], [], groups=[]), []).shape == (0,)
    assert CALLS[name](Steps.from_lengths([0, 0], [], [], groups=["p", "q"]), [1.0, 2.0]).shape == (0,)
    lone = CALLS[name](Steps([0], ["a"], ["x"], groups=[0]), [2.0])
    raw = {"gigpo": 2 / (1 + 1e-6), "gigpo_rows": 2.0, "salt": 2.0, "step_returns": 2.0, "segment_returns": 2.0}
    assert lone.tolist() == pytest.approx([raw.get(name, 0.0)])
    assert np.isfinite(
        CALLS[name](Steps.from_lengths([2, 0, 1], list("aba"), list("xxx"), groups=[0] * 3), [1, 2, 3])
    ).all()


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.filterwarnings("error")
def test_rewards_that_are_not_finite(name):
    steps = Steps.from_lengths([2, 1, 2, 1], list("abaaca"), list("xxxyxx"), groups=["p", "p", "q", "q"])
    argument = "advantages" if "salt" in name else "rewards"
    for bad in (np.nan, np.inf):
        rewards = [1.0, bad, 0.0, 1.0]
        who = rf"^{name.split('_')[0]}\w*\(\): '{argument}' must be finite, got {bad} at index 1; "
        with pytest.raises(
            ValueError, match=who + r"take such .* out with steps.take\(keep\), or choose nan='propagate'"
        ):
            CALLS[name](steps, rewards)
        got = CALLS[name](steps, rewards, nan="propagate")
        assert not np.isfinite(got[2])
        assert np.isfinite(got[3:]).all()
    omitted = CALLS[name](steps, [1.0, np.nan, 0.0, 1.0], nan="omit")
    assert omitted[2] == 0
    # What is left is as if the trajectory had not been there.
    rest = steps.take([True, False, True, True])
    np.testing.assert_array_equal(np.delete(omitted, 2), CALLS[name](rest, [1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=rf"'{argument}' must be finite, got inf at index 1"):
        CALLS[name](steps, [1.0, np.inf, 0.0, 1.0], nan="omit")


@calls
def test_wrong_calls(name):
    steps = Steps([0, 0, 1], ["a", "b", "a"], ["x", "x", "x"], groups=[0, 0])
    argument = "advantages" if "salt" in name else "rewards"
    with pytest.raises(TypeError, match=r"\(\): 'steps' must be a rollmath.Steps, got "):
        CALLS[name]([0, 0, 1], [1.0, 0.0])
    with pytest.raises(ValueError, match=rf"'{argument}' must have length 2 \(= steps.n_trajectories\), got 3"):
        CALLS[name](steps, [1.0, 0.0, 1.0])
    with pytest.raises(TypeError, match=rf"'{argument}' must hold floats, ints or bools"):
        CALLS[name](steps, ["a", "b"])
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=rf"'{argument}' requires grad"):
        CALLS[name](steps, torch.ones(2, requires_grad=True))
    if name in STANDARD:
        with pytest.raises(ValueError, match="'eps' must be finite and not negative"):
            CALLS[name](steps, [1.0, 0.0], eps=-1.0)


@pytest.mark.parametrize("name", [n for n in CALLS if "salt" not in n and n != "segment_returns"])
def test_rewards_or_step_rewards(name):
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    call = getattr(
        graph,
        "gigpo"
        if name == "gigpo_rows"
        else next(n for n in sorted(graph.__all__, key=len, reverse=True) if name.startswith(n)),
    )
    who = rf"^{call.__name__}\(\): "
    one = who + r"one of 'rewards' \(one a trajectory, .*\) and 'step_rewards' \(one a row, .*\) must be given, .* got "
    with pytest.raises(ValueError, match=one + "neither"):
        call(steps, None)
    if call is not graph.gigpo:
        with pytest.raises(ValueError, match=one + "both"):
            call(steps, [1.0, 0.0], step_rewards=[0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=who + r"'step_rewards' must have length 3 \(= the number of rows\), got 2"):
        call(steps, None, step_rewards=[1.0, 0.0])
    with pytest.raises(
        ValueError, match=who + r"'step_rewards' must be finite, got nan at index 2; a step without a reward has 0"
    ):
        call(steps, None, step_rewards=[1.0, 0.0, np.nan])
    for gamma in (-0.1, 1.5, np.nan):
        with pytest.raises(ValueError, match=who + r"'gamma' must be between 0 and 1, got "):
            call(steps, [1.0, 0.0], gamma=gamma)
    # An outcome is a reward of the last step.
    np.testing.assert_array_equal(call(steps, [2.0, 1.0]), call(steps, None, step_rewards=[0.0, 2.0, 1.0]))


@pytest.mark.parametrize("name", ["gigpo_rows", "hgpo", "salt_task", "step_reinforce_state"])
def test_threads_change_no_bit(oracle, same_bits, name):
    rng, n = np.random.default_rng(0), 100_000
    steps = Steps(rng.integers(0, n // 20, n), rng.integers(0, 30, n), groups=rng.integers(0, n // 100, n // 20))
    oracle("step_laws.py", "threads")(CALLS[name], steps, same_bits, rm.set_num_threads, rm.num_threads())
