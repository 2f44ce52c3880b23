"""Recipes on steps as estimators in verl's own registry and ``compute_advantage``, on a real DataProto."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

from recipe_episodes import salt
from verl_batches import Config, proto
from verl_steps import Agents

from rollmath import graph
from rollmath.adapters import verl as adapter

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

METHODS = {
    "gigpo": (graph.gigpo, {}),
    "hgpo": (graph.hgpo, {"convention": rm.conventions.HGPO}),
    "salt": (salt, {}),
}


@pytest.fixture
def trainer(peer):
    """verl's module that has compute_advantage; the registry as it was afterwards."""
    module = peer("verl.trainer.ppo.ray_trainer")
    yield module
    adapter.unpatch_compute_advantage()
    adapter.unregister()


def run(trainer, tensors, columns, name, table=None):
    """Advantages and returns of all rows."""
    settings = Config(gamma=1.0, lam=1.0, rollmath=table)
    out = trainer.compute_advantage(proto(tensors, columns), f"rollmath/{name}", config=settings)
    return out.batch["advantages"].numpy(), out.batch["returns"].numpy()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("gaps", [False, True])
def test_a_row_a_step(trainer, name, gaps):
    method, options = METHODS[name]
    adapter.register()
    for seed in range(5):
        made = Agents(seed, gaps=gaps)
        tensors = {"token_level_rewards": made.token_rewards, "response_mask": made.mask}
        expected = made.at_rows(method(made.steps(), made.rewards, **options))
        with adapter.patch_compute_advantage():
            mine, returns = run(trainer, tensors, made.columns("actions"), name)
            order = made.shuffled()
            moved = {key: x[order] for key, x in tensors.items()}
            columns = {key: x[order] for key, x in made.columns("actions", "turn").items()}
            again, _ = run(trainer, moved, columns, name, {"columns": {"step": "turn"}})
        np.testing.assert_array_equal(mine, returns)
        np.testing.assert_allclose(mine, expected, atol=1e-6)
        np.testing.assert_allclose(again, expected[order], atol=1e-6)
        assert np.abs(expected).max() > 0 or len(set(made.rewards)) == 1 or len(made.rewards) == len(set(made.uid))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("touching", [False, True])
def test_a_row_a_rollout(trainer, name, touching):
    method, options = METHODS[name]
    adapter.register()
    for seed in range(5):
        made = Agents(seed)
        values = method(made.steps(), made.rewards, **options)
        tensors, columns, expected = made.multi_turn(values, touching=touching)
        turns = columns.pop("turns", None)
        more = {} if turns is None else {"turns": turns}
        with adapter.patch_compute_advantage():
            mine, _ = run(trainer, tensors | more, columns, name)
        np.testing.assert_allclose(mine, expected, atol=1e-6)
        assert mine.shape == tensors["response_mask"].shape
        assert not mine[tensors["response_mask"].numpy() == 0].any()


def test_options_and_the_loss(trainer):
    """Another base, weight and statistics; the policy loss of the recipe is there by its name, too."""
    made = Agents(39)
    tensors = {"token_level_rewards": made.token_rewards, "response_mask": made.mask}
    registered = adapter.register()
    with adapter.patch_compute_advantage():
        table = {"advantage": {"base": "group.rloo"}}
        mine, _ = run(trainer, tensors, made.columns("actions"), "salt", table)
        rollouts = rm.group.rloo(made.rewards, made.steps().trajectory_groups)
        np.testing.assert_allclose(mine, made.at_rows(graph.salt(made.steps(), rollouts)), atol=1e-6)
        told = {"statistics": "step_rows", "weight": 0.5, "scale": "std"}
        table = {"recipe": "gigpo", "advantage": {"options": told}}
        mine, _ = run(trainer, tensors, made.columns(), "recipe", table)
        np.testing.assert_allclose(mine, made.at_rows(graph.gigpo(made.steps(), made.rewards, **told)), atol=1e-6)
    assert {"rollmath/gigpo", "rollmath/hgpo", "rollmath/salt"} <= set(registered.estimators) & set(
        registered.objectives
    )


def test_what_is_missing(trainer):
    made = Agents(1)
    tensors = {"token_level_rewards": made.token_rewards, "response_mask": made.mask}
    adapter.register()
    with pytest.raises(ValueError, match=r"rollmath/gigpo\(\): needs 'states', .*patch_compute_advantage\(\)"):
        run(trainer, tensors, made.columns(), "gigpo")
    with (
        adapter.patch_compute_advantage(),
        pytest.raises(ValueError, match=r"rollmath/gigpo\(\): needs 'states', .* traj_uid and anchor_obs"),
    ):
        run(trainer, tensors, {"uid": made.uid}, "gigpo")
