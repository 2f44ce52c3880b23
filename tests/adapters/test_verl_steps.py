"""Recipes on steps as estimators of verl's batches, without verl: a row a step, and a row a rollout."""

import importlib.util
import re

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

import torch
from hypothesis import given
from hypothesis import strategies as st
from recipe_episodes import salt
from verl_steps import Agents

from rollmath import graph
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._columns import objects
from rollmath.adapters.verl._names import ESTIMATORS
from rollmath.adapters.verl._sessions import Sessions

METHODS = {
    "gigpo": (graph.gigpo, {}),
    "hgpo": (graph.hgpo, {"convention": rm.conventions.HGPO}),
    "salt": (salt, {}),
}


def run(name, batch, options=None):
    advantages, returns = ESTIMATORS[name].run(batch, options or {})
    assert returns is advantages
    assert advantages.dtype == np.float32
    return advantages


#: A seed of which rollouts take the same step.
SHARED = 39


@pytest.mark.parametrize("name", METHODS)
@given(st.integers(0, 10**9), st.booleans())
def test_a_row_a_step(name, seed, gaps):
    """Also with rows in another order, some of them twice, once the number of the step is known."""
    made = Agents(seed, gaps=gaps)
    method, options = METHODS[name]
    expected = made.at_rows(method(made.steps(), made.rewards, **options))
    given = Batch(f"rollmath/{name}", made.token_rewards, made.mask, {}, made.columns("actions"))
    np.testing.assert_allclose(run(name, given), expected, atol=1e-6)
    order = made.shuffled()
    columns = {key: x[order] for key, x in made.columns("actions", "turn").items()}
    given = Batch(f"rollmath/{name}", made.token_rewards[order], made.mask[order], {}, columns)
    np.testing.assert_allclose(run(name, given, {"columns": {"step": "turn"}}), expected[order], atol=1e-6)
    # Under other names, with an outcome at the last step alone.
    columns = {f"my_{key}" if key != "uid" else key: x for key, x in columns.items()}
    rewards = torch.zeros_like(made.token_rewards)
    rewards[made.final, 0] = torch.from_numpy(made.rewards.astype(np.float32))
    named = {"states": "my_anchor_obs", "trajectory": "my_traj_uid", "actions": "my_actions", "step": "my_turn"}
    table = {"columns": named, "rewards": "max"}
    given = Batch(f"rollmath/{name}", rewards[order], made.mask[order], {}, columns)
    np.testing.assert_allclose(run(name, given, table), expected[order], atol=1e-6)


def test_rewards_of_steps():
    made = Agents(1)
    earned = np.random.default_rng(0).integers(0, 3, len(made.mask)).astype(np.float32)
    columns = made.columns() | {"rewards": earned, "step_rewards": np.full(len(earned), 99.0)}
    given = Batch("rollmath/gigpo", made.token_rewards, made.mask, {}, columns)
    # verl-agent's column step_rewards has returns, and is not read.
    np.testing.assert_allclose(run("gigpo", given), made.at_rows(graph.gigpo(made.steps(), made.rewards)), atol=1e-6)
    found = run("gigpo", given, {"columns": {"step_rewards": "rewards"}})
    expected = graph.gigpo(made.steps(), made.rewards, step_rewards=earned)
    np.testing.assert_allclose(found, made.at_rows(expected), atol=1e-6)
    table = {"advantage": {"options": {"history": 1, "gamma": 0.5}}, "columns": {"step_rewards": "rewards"}}
    expected = graph.hgpo(made.steps(), None, step_rewards=earned, history=1, gamma=0.5, convention=rm.conventions.HGPO)
    np.testing.assert_allclose(run("hgpo", given, table), made.at_rows(expected), atol=1e-6)


def test_columns_of_one_row():
    """One number a row goes to its step; a column that happens to be named `turns` is not read."""
    made = Agents(1)
    invalid = np.random.default_rng(0).random(len(made.mask)) < 0.5
    columns = made.columns() | {"invalid": invalid, "turns": np.arange(len(invalid))}
    given = Batch("rollmath/recipe", made.token_rewards, made.mask, {}, columns)
    table = {
        "recipe": "gigpo",
        "advantage": {"method": "graph.g2po", "convention": "G2PO", "options": {"statistics": "trajectories"}},
    }
    found = run("recipe", given, table | {"columns": {"invalid": "invalid"}})
    expected = graph.g2po(made.steps(), made.rewards, invalid=invalid)
    np.testing.assert_allclose(found, made.at_rows(expected), atol=1e-6)
    assert np.abs(expected - graph.g2po(made.steps(), made.rewards)).max() > 0


def test_actions_are_the_tokens_of_a_row():
    made = Agents(SHARED)
    made.responses[:] = 5
    columns = made.columns() | {"responses": made.responses}
    given = Batch("rollmath/salt", made.token_rewards, made.mask, {}, columns)
    texts = [tuple(ids[keep].tolist()) for ids, keep in zip(made.responses, made.mask != 0, strict=True)]
    steps = rm.Steps(made.trajectory.tolist(), made.states.tolist(), texts, groups=made.uid.tolist())
    np.testing.assert_allclose(run("salt", given), made.at_rows(salt(steps, made.rewards)), atol=1e-6)
    assert steps.merge().shared.any()
    pictures = objects([np.full((2, 2), hash(x) % 7, np.uint8) for x in made.states])
    given = Batch("rollmath/salt", made.token_rewards, made.mask, {}, columns | {"anchor_obs": pictures})
    keys = [x.tobytes() for x in pictures]
    steps = rm.Steps(made.trajectory.tolist(), keys, texts, groups=made.uid.tolist())
    np.testing.assert_allclose(run("salt", given), made.at_rows(salt(steps, made.rewards)), atol=1e-6)


def test_sessions_of_several_outputs_are_trajectories():
    """v1: an output is a step, the reward that of the last, and padding gets 0."""
    made = Agents(3)
    inner = np.setdiff1d(np.arange(len(made.mask)), made.final)
    made.token_rewards[inner] = 7.0
    keys = [f"{uid}_{t}_{k}" for uid, t, k in zip(made.uid, made.trajectory, made.turn, strict=True)] + ["pad_0_0"]
    sessions = Sessions.of("f", keys, padding=[False] * len(made.mask) + [True])
    columns = {"uid": np.append(made.uid, "pad"), "anchor_obs": np.append(made.states, "hall")}
    more = [torch.cat([x, x[:1]]) for x in (made.token_rewards, made.mask)]
    given = Batch("rollmath/gigpo", *more, {}, columns, sessions=sessions)
    expected = made.at_rows(graph.gigpo(made.steps(), made.rewards))
    found = run("gigpo", given)
    np.testing.assert_allclose(found[:-1], expected, atol=1e-6)
    assert not found[-1].any()


@pytest.mark.parametrize("name", METHODS)
@given(st.integers(0, 10**9), st.booleans())
def test_a_row_a_rollout(name, seed, touching):
    """Turns are runs of the mask, or numbers."""
    made = Agents(seed)
    method, options = METHODS[name]
    tensors, columns, expected = made.multi_turn(method(made.steps(), made.rewards, **options), touching=touching)
    given = Batch(f"rollmath/{name}", tensors["token_level_rewards"], tensors["response_mask"], {}, columns)
    np.testing.assert_allclose(run(name, given), expected, atol=1e-6)
    renamed = {"seen" if key == "states" else key: x for key, x in columns.items()}
    given = Batch(f"rollmath/{name}", tensors["token_level_rewards"], tensors["response_mask"], {}, renamed)
    np.testing.assert_allclose(run(name, given, {"columns": {"states": "seen"}}), expected, atol=1e-6)


def batch(made, columns, **more):
    return Batch("rollmath/gigpo", made.token_rewards, made.mask, {}, columns, **more)


def test_errors():
    made = Agents(4)
    columns = made.columns()
    uneven = made.token_rewards.clone()
    uneven[0] += 1
    with pytest.raises(
        ValueError, match=r"^rollmath/gigpo\(\): 'token_level_rewards' must add up to the same in all r"
    ):
        run("gigpo", Batch("rollmath/gigpo", uneven, made.mask, {}, columns))
    back = {key: x[::2] for key, x in columns.items()} | {key: np.append(x[::2], x[1::2]) for key, x in columns.items()}
    order = np.append(np.arange(len(made.mask))[::2], np.arange(len(made.mask))[1::2])
    with pytest.raises(
        ValueError, match=r"rows of a trajectory must follow one another .* trainer.balance_batch\); put"
    ):
        run("gigpo", Batch("rollmath/gigpo", made.token_rewards[order], made.mask[order], {}, back))
    split = columns | {"uid": np.array([f"p{i}" for i in range(len(made.mask))], object)}
    with pytest.raises(ValueError, match="'uid' must be the same in all rows of a trajectory, got 'p0' and 'p1'"):
        run("gigpo", batch(made, split))
    for table, text in (
        ({"rewards": "median"}, "'algorithm.rollmath.rewards' must be one of 'same', 'first', 'last', 'sum'"),
        ({"columns": {"state": "x"}}, "unknown column in 'algorithm.rollmath.columns' 'state'; known are 'states'"),
        ({"columns": {"steps": "x"}}, "unknown column in 'algorithm.rollmath.columns' 'steps'"),
        ({"columns": {"states": "x"}}, r"needs 'x' \(for 'states'\), which the batch does not have"),
        ({"columns": {"trajectory": "x"}}, r"needs 'x' \(for 'trajectory'\)"),
        ({"columns": {"step": "x"}}, r"needs 'x' \(for 'step'\)"),
    ):
        with pytest.raises(ValueError, match=text):
            run("gigpo", batch(made, columns), table)
    last = columns | {"turn": np.zeros(len(made.mask), np.int64)}
    with pytest.raises(
        ValueError,
        match=r"with the same number of a step must be copies, but rows 0 and 1, of step 0 of 't\d', have oth",
    ):
        run("gigpo", batch(made, last), {"columns": {"step": "turn"}})
    with pytest.raises(TypeError, match="'anchor_obs' must hold one integer a row, the number of the step"):
        run("gigpo", batch(made, columns), {"columns": {"step": "anchor_obs"}})
    with pytest.raises(ValueError, match=r"'anchor_obs' must have one value a row, \[\d+\], got \(3,\)"):
        run("gigpo", batch(made, columns | {"anchor_obs": np.array(["a"] * 3, object)}))
    bare = {"uid": columns["uid"]}
    with pytest.raises(
        ValueError, match=re.escape("needs 'states', which the batch does not have (it has: uid): one li")
    ):
        run("gigpo", batch(made, bare))
    with pytest.raises(ValueError, match=r"needs 'traj_uid' \(for 'trajectory'\)"):
        run("gigpo", batch(made, bare | {"turn": made.turn}), {"columns": {"step": "turn"}})
    with pytest.raises(ValueError, match=r"needs 'anchor_obs' .*what the agent saw in each row"):
        run("gigpo", batch(made, bare | {"traj_uid": columns["traj_uid"]}))
    with pytest.raises(
        ValueError, match=r"'algorithm.rollmath.rewards' is for batches with a row for each step, got 'su"
    ):
        run("gigpo", batch(made, bare | {"states": made.states}), {"rewards": "sum"})
    with pytest.raises(ValueError, match=r"unknown option 'algorithm\.rollmath' 'rewards'; known are"):
        run("dapo", batch(made, bare), {"rewards": "sum"})
    with pytest.raises(ValueError, match=r"needs 'responses', which the batch does not have"):
        run("salt", batch(made, columns))
