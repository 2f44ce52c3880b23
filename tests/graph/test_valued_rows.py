"""What methods that walk the step graph have in common: laws of rows and tasks, kinds, wrong calls."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rollmath as rm
from rollmath import Steps, graph

#: With options that leave nothing out.
CALLS = {
    "g2po": lambda s, r, **k: graph.g2po(s, r, invalid=s.position % 2, **k),
    "g2po_rows": lambda s, r, **k: graph.g2po(s, r, scale="none", statistics="step_rows", **k),
    "graft": graph.graft,
    "graft_gae": lambda s, r, **k: graph.graft(s, r, values=s.position / 3, lam=0.8, **k),
    "graphgpo": lambda s, r, **k: graph.graphgpo(s, r, costs=1 + s.position % 3, **k),
    "graphgpo_progress": lambda s, r, **k: graph.graphgpo(s, r, formula="progress", scale="none", **k),
    "rewardflow": lambda s, r, **k: graph.rewardflow(s, r, scale="std", **k),
    "rewardflow_last": lambda s, r, **k: graph.rewardflow(s, r, last="reward", statistics="step_rows", **k),
    "rtmc": graph.rtmc,
    "rtmc_every": lambda s, r, **k: graph.rtmc(s, r, visits="every", n_prior=0.0, **k),
}
VALUES = {
    "graft_values": lambda s, r: graph.graft_values(s, r).values,
    "graft_next_values": lambda s, r: graph.graft_values(s, r).next_values,
    "rewardflow_values": lambda s, r: graph.rewardflow_values(s, r).values,
    "rewardflow_next_values": lambda s, r: graph.rewardflow_values(s, r).next_values,
}
STANDARD = {name: call for name, call in CALLS.items() if "rtmc" not in name}
ALL = CALLS | VALUES
calls = pytest.mark.parametrize("name", ALL)
SEEDS = st.integers(0, 2**32)


def outcome(steps, dtype=np.float64):
    """A reward of each trajectory that hangs on its id alone; some are equal, whole tasks too."""
    value = {t: (zlib.crc32(t.encode()) % 7 - 3) / 3 * (t[1] != "1") for t in steps.trajectory_ids}
    return np.array([value[t] for t in steps.trajectory_ids], dtype)


@calls
@given(SEEDS)
def test_rows_in_another_order_get_the_same_bits(oracle, same_bits, name, seed):
    oracle("step_laws.py", "rows_in_another_order")(ALL[name], outcome, same_bits, seed)


def nearly(a, b):
    # A difference of 0 that is rounded to a few 1e-16 is divided by an eps of 1e-6.
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-9)


@calls
@given(SEEDS)
def test_other_names_and_other_tasks_change_nothing(oracle, same_bits, name, seed):
    # States of a cycle are taken out of the equations in the order of their keys, and other keys round otherwise.
    renamed = nearly if name.startswith("graft") else same_bits
    oracle("step_laws.py", "other_names_and_tasks")(ALL[name], outcome, same_bits, renamed, seed)


@calls
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_])
def test_kinds(oracle, name, dtype):
    oracle("step_laws.py", "kinds")(ALL[name], dtype, pytest.importorskip("torch"))


@calls
@pytest.mark.filterwarnings("error")
def test_no_rows_lone_rows_and_trajectories_of_no_step(name):
    assert ALL[name](Steps([], [], [], groups=[]), []).shape == (0,)
    assert ALL[name](Steps.from_lengths([0, 0], [], [], groups=["p", "q"]), [1.0, 2.0]).shape == (0,)
    lone = ALL[name](Steps([0], ["a"], ["x"], groups=[0]), [2.0])
    raw = 2 / (1 + 1e-6)
    expected = {
        "g2po": raw, "g2po_rows": 2.0, "graft_gae": 1.98 / (1.98 + 1e-6), "graphgpo": raw, "graphgpo_progress": 2.0,
        "rewardflow": raw, "rewardflow_last": 2.0, "graft_values": 1.98, "graft_next_values": 2.0,
        "rewardflow_values": 1.9, "rewardflow_next_values": 2.0, "rtmc": 2 - (2 + 2 * 2) / 3,
    }  # fmt: skip
    assert lone.tolist() == pytest.approx([expected.get(name, 0.0)])
    steps = Steps.from_lengths([2, 0, 1], list("aba"), list("xxx"), groups=[0] * 3)
    assert np.isfinite(ALL[name](steps, [1.0, 2.0, 3.0])).all()


@pytest.mark.parametrize("name", CALLS)
def test_advantages_of_trajectories(oracle, name):
    steps = oracle("step_laws.py", "build")(oracle("step_tables.py", "random_table")(11))
    given = np.arange(steps.n_trajectories) - 2.0
    without = CALLS[name](steps, outcome(steps), advantages=np.zeros(steps.n_trajectories))
    got = CALLS[name](steps, outcome(steps), advantages=given)
    np.testing.assert_allclose(got - without, steps.gather(given), atol=1e-12)
    by_group = rm.group.rloo(outcome(steps), steps.trajectory_groups)
    assert CALLS[name](steps, outcome(steps), advantages=by_group).shape == (len(steps),)
    who = rf"^{name.split('_')[0]}\(\): "
    with pytest.raises(ValueError, match=who + "'advantages' must have length"):
        CALLS[name](steps, outcome(steps), advantages=given[1:])
    with pytest.raises(
        ValueError, match=rf"^{name.split('_')[0]}\(\): 'advantages' must be finite, got nan at index 0"
    ):
        CALLS[name](steps, outcome(steps), advantages=np.full(steps.n_trajectories, np.nan))


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.filterwarnings("error")
def test_a_reward_that_is_not_finite_is_an_error_or_loses_its_task(same_bits, name):
    steps = Steps.from_lengths([2, 1, 2, 1], list("abaaca"), list("xxxyxx"), groups=["p", "p", "q", "q"])
    who = rf"^{name.split('_')[0]}\(\): "
    for bad in (np.nan, np.inf):
        rewards = [1.0, bad, 0.0, 1.0]
        for nan in ("raise", "omit"):
            message = (
                rf"'rewards' must be finite, got {bad} at index 1; take .* steps.take\(keep\), or choose nan='prop"
            )
            with pytest.raises(ValueError, match=who + message):
                CALLS[name](steps, rewards, nan=nan)
        got = CALLS[name](steps, rewards, nan="propagate")
        assert np.isnan(got[:3]).all()
        same_bits(got[3:], CALLS[name](steps, [1.0, 1.0, 0.0, 1.0])[3:])


@pytest.mark.parametrize("name", ["rtmc", *VALUES])
def test_a_reward_that_is_not_finite_is_an_error(name):
    steps = Steps.from_lengths([2, 1], list("aba"), list("xxx"), groups=["p", "p"])
    with pytest.raises(ValueError, match=r"^\w+\(\): 'rewards' must be finite, got nan at index 1; take .*\(keep\)$"):
        ALL[name](steps, [0.0, np.nan])


@calls
def test_wrong_calls(name):
    torch = pytest.importorskip("torch")
    steps = Steps([0, 0, 1], ["a", "b", "a"], ["x", "x", "x"], groups=[0, 0])
    who = rf"^{name.split('_')[0]}(_values)?\(\): "
    with pytest.raises(TypeError, match=who + "'steps' must be a rollmath.Steps, got an object of type list"):
        getattr(graph, name if name in graph.__all__ else name.split("_")[0])([0, 0, 1], [1.0, 0.0])
    with pytest.raises(ValueError, match=who + r"'rewards' must have length 2 \(= steps.n_trajectories\), got 3"):
        ALL[name](steps, [1.0, 0.0, 1.0])
    with pytest.raises(TypeError, match=who + "'rewards' must hold floats, ints or bools"):
        ALL[name](steps, ["a", "b"])
    with pytest.raises(ValueError, match=who + "'rewards' requires grad"):
        ALL[name](steps, torch.ones(2, requires_grad=True))


@pytest.mark.parametrize("name", STANDARD)
def test_wrong_options(name):
    steps = Steps([0, 0, 1, 2], ["a", "b", "a", "c"], ["x"] * 4, groups=["p", "p", "q"])
    who, rewards = rf"^{name.split('_')[0]}\(\): ", [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=who + "'eps' must be finite and not negative"):
        CALLS[name](steps, rewards, eps=-1.0)
    with pytest.raises(ValueError, match=who + "'convention': VERL.* has no convention for"):
        CALLS[name](steps, rewards, convention=rm.conventions.VERL)
    method = getattr(graph, name.split("_")[0])
    with pytest.raises(ValueError, match=who + "'scale' must be one of .*, got 'mean'"):
        method(steps, rewards, scale="mean")
    one = r"'steps' has a (task|state) with one valid member \(that of (trajectory|row) \d\); choose singleton="
    with pytest.raises(ValueError, match=who + one):
        method(steps, rewards, singleton="raise")
    if method is graph.graft:
        return
    with pytest.raises(ValueError, match=who + r"'steps' has a task without spread \(that of trajectory 0\); choose"):
        method(steps, rewards, scale="std", zero_spread="raise")
    with pytest.raises(ValueError, match=who + "'statistics' must be one of 'trajectories', 'step_rows', got 'rows'"):
        method(steps, rewards, statistics="rows")


@pytest.mark.parametrize("method", ["graft", "graft_values", "graphgpo", "rewardflow", "rewardflow_values"])
def test_truncated_trajectories(method):
    call, rewards = getattr(graph, method), [1.0, 0.0]
    steps = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0], next_state=["b", "c", "b"])
    # That it was cut off in b is as if it had gone on as the other did.
    whole = np.stack(call(steps, rewards)) if "values" in method else call(steps, rewards)
    cut = call(steps, rewards, truncated=[False, True])
    assert not np.array_equal(np.stack(cut) if "values" in method else cut, whole)
    known = Steps([0, 0, 1], ["a", "b", "a"], groups=[0, 0])
    with pytest.raises(ValueError, match=rf"^{method}\(\): 'truncated' must be False where .* 1 is truncated"):
        call(known, rewards, truncated=[False, True])
    with pytest.raises(ValueError, match=rf"^{method}\(\): 'truncated' must have length 2"):
        call(steps, rewards, truncated=[True])
    with pytest.raises(TypeError, match=rf"^{method}\(\): 'truncated' must be bool or integer"):
        call(steps, rewards, truncated=[0.5, 0.5])


@pytest.mark.parametrize("name", ALL)
def test_threads_change_no_bit(oracle, same_bits, name):
    rng, n = np.random.default_rng(0), 20_000
    steps = Steps.from_lengths(np.full(n // 5, 5), rng.integers(0, 12, n), groups=rng.integers(0, n // 40, n // 5))
    oracle("step_laws.py", "threads")(ALL[name], steps, same_bits, rm.set_num_threads, rm.num_threads())
