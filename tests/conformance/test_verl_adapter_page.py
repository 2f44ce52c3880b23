"""docs/trainers/verl.md: its lines of configuration in verl's own, and its table of names."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
from verl_batches import columns, proto

from rollmath.adapters import verl as adapter

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

TEXT = (Path(__file__).parents[2] / "docs" / "trainers" / "verl.md").read_text()
LINES = re.findall(r"^    (\+?\w[\w.]*=\S+)", TEXT, re.MULTILINE)


@pytest.fixture
def trainer(peer):
    """verl's module that has compute_advantage; the registry as it was afterwards."""
    yield peer("verl.trainer.ppo.ray_trainer")
    adapter.unregister()


@pytest.fixture
def composed(peer):
    """verl's own configuration with overrides on its command line."""
    hydra = peer("hydra")
    folder = Path(peer("verl").__file__).parent / "trainer" / "config"
    batches = ("actor.ppo", "rollout.log_prob", "ref.log_prob")

    def compose(*overrides):
        sizes = [f"actor_rollout_ref.{name}_micro_batch_size_per_gpu=1" for name in batches]
        with hydra.initialize_config_dir(str(folder), version_base=None):
            return hydra.compose("ppo_trainer", overrides=[*sizes, *overrides])

    return compose


def test_the_lines_of_the_page_in_the_configuration_of_verl(trainer, peer, composed):
    """Every line of configuration that docs/trainers/verl.md shows is taken by main_ppo's own, and has its effect."""
    config_of, utils = peer("verl.utils.config"), peer("verl.trainer.ppo.utils")
    lines = [line for line in LINES if line.startswith(("algorithm", "+algorithm", "actor_rollout_ref"))]
    assert len(lines) == 12
    data = columns(1)
    adapter.register()

    def advantages(algorithm):
        out = trainer.compute_advantage(proto(*data), algorithm.adv_estimator, config=algorithm)
        # One number a row: at its first trained token.
        return out.batch["advantages"].gather(1, data[0]["response_mask"].argmax(1)[:, None])[:, 0].numpy()

    others = ("strat", "tree", "gigpo", "columns.step")
    first = composed(*(line for line in lines if not any(word in line for word in others)))
    config_of.validate_config(first, utils.need_reference_policy(first), use_critic=False)
    actor = config_of.omega_conf_to_dataclass(first.actor_rollout_ref.actor)
    losses = peer("verl.trainer.ppo.core_algos")
    assert losses.get_policy_loss_fn(actor.policy_loss.loss_mode).__name__ == "rollmath/gspo"
    assert first.actor_rollout_ref.model.external_lib == "rollmath.adapters.verl.auto"
    rewards, uid = data[0]["token_level_rewards"].sum(1).numpy(), data[1]["uid"]
    expected = rm.group.grpo(rewards, uid, convention=rm.conventions.TRL, eps=1e-4)
    np.testing.assert_array_equal(advantages(first.algorithm), expected)
    second = composed(*(line for line in lines if "strat" in line))
    with adapter.patch_compute_advantage():
        found = advantages(second.algorithm)
    expected = rm.group.stratified(rewards, uid, strata=data[1]["n_tool_calls"])
    np.testing.assert_array_equal(found, expected)
    third = composed(*(line for line in lines if "tree" in line))
    config_of.validate_config(third, utils.need_reference_policy(third), use_critic=False)
    actor = config_of.omega_conf_to_dataclass(third.actor_rollout_ref.actor)
    assert losses.get_policy_loss_fn(actor.policy_loss.loss_mode).__name__ == "rollmath/spo_tree"
    # No two responses begin alike: all branch at the prompt.
    data[0]["responses"] = torch.arange(data[0]["response_mask"].numel()).view(data[0]["response_mask"].shape)
    with adapter.patch_compute_advantage():
        found = advantages(third.algorithm)
    np.testing.assert_allclose(found, rm.group.dr_grpo(rewards, uid), atol=1e-6)
    fourth = composed(*(line for line in lines if "gigpo" in line or "columns.step" in line))
    config_of.validate_config(fourth, utils.need_reference_policy(fourth), use_critic=False)
    actor = config_of.omega_conf_to_dataclass(fourth.actor_rollout_ref.actor)
    assert losses.get_policy_loss_fn(actor.policy_loss.loss_mode).__name__ == "rollmath/gigpo"
    # Every trajectory has one step, all in the same state.
    n = len(uid)
    data[1].update(traj_uid=np.arange(n).astype(object), anchor_obs=np.full(n, "x", object), turn=np.arange(n))
    with adapter.patch_compute_advantage():
        found = advantages(fourth.algorithm)
    raw = rm.group.dr_grpo(rewards, uid, singleton="raw")
    np.testing.assert_allclose(found, raw + rm.group.dr_grpo(rewards, uid), atol=1e-6)
    made = composed("algorithm.adv_estimator=rollmath/recipe", "+algorithm.rollmath={recipe: dapo, truncated: keep}")
    np.testing.assert_array_equal(advantages(made.algorithm), rm.group.grpo(rewards, uid))


def test_the_page_names_what_is_registered(trainer):
    """Every name in the table of docs/trainers/verl.md, and no method or loss without a place there."""
    lines = {line.split("|")[1].strip(): set(re.findall(r"`(\w+)`", line)) for line in TEXT.splitlines() if "|" in line}
    done = adapter.register()
    known = {name.removeprefix("rollmath/") for name in done.estimators}
    losses = {name.removeprefix("rollmath/") for name in done.objectives}
    recipes = lines["recipes as estimators"]
    assert lines["verl's own estimators, its numbers"] | lines["others"] | recipes == known
    assert lines["verl's own losses"] | lines["other losses"] | set(rm.recipes.names()) == losses
