"""Recipes on trees as estimators in verl's own ``compute_advantage``, on a real DataProto."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
from verl_batches import Config, columns, proto

from rollmath.adapters import verl as adapter

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture
def trainer(peer):
    """verl's module that has compute_advantage; the registry as it was afterwards."""
    module = peer("verl.trainer.ppo.ray_trainer")
    yield module
    adapter.unpatch_compute_advantage()
    adapter.unregister()


def config(**more):
    return Config(gamma=1.0, lam=1.0, **more)


def run(trainer, batch, name, settings=None):
    """Advantages and returns of all rows."""
    settings = settings or config()
    tensors = {name: x for name, x in batch[0].items() if name != "reward_baselines"}
    out = trainer.compute_advantage(proto(tensors, batch[1]), name, config=settings)
    return out.batch["advantages"], out.batch["returns"]


def trees(seed, *, gaps=False):
    """A batch in which responses share what they begin with, and the paths of an agent loop."""
    tensors, others = columns(seed, gaps=gaps, sizes=(2, 4, 8), width=12)
    rng = np.random.default_rng(seed)
    n, width = tensors["response_mask"].shape
    inside = tensors["attention_mask"][:, -width:].numpy()
    tensors["responses"] = torch.from_numpy(rng.integers(2, 4, (n, width)) * inside)
    lengths = inside.sum(1)
    paths = np.empty(n, object)
    paths[:] = [[str(others["uid"][i]), i % 2, i] for i in range(n)]
    sizes = np.empty(n, object)
    shortest = {key: min(lengths[i] for i in range(n) if (others["uid"][i], i % 2) == key) // 2
                for key in {(others["uid"][i], i % 2) for i in range(n)}}  # fmt: skip
    sizes[:] = [[2, h, int(lengths[i]) - h] for i in range(n) for h in [int(shortest[others["uid"][i], i % 2])]]
    return tensors, others, {"paths": paths, "path_lengths": sizes}


def rows_of(tensors):
    width = tensors["response_mask"].shape[1]
    lengths = tensors["attention_mask"][:, -width:].sum(1).numpy()
    return rm.Rows(
        np.arange(len(lengths)), lengths, mask=tensors["response_mask"].numpy(), tokens=tensors["responses"].numpy()
    )


@pytest.mark.parametrize("gaps", [False, True])
def test_trees_of_responses(trainer, gaps):
    """Advantages are those of the recipe on the same tokens: by the responses, and by paths where there are some."""
    tensors, others, paths = trees(5, gaps=gaps)
    adapter.register()
    rewards, rows = tensors["token_level_rewards"].sum(1).numpy(), rows_of(tensors)
    width = tensors["response_mask"].shape[1]
    spo = rm.recipes.get("spo_tree")
    forest = rm.Forest.from_sequences(rows.tokens.values, rows.offsets, groups=others["uid"])
    for table in ({}, {"shared": "per_rollout", "zeros": "keep"}, {"advantage": {"options": {"edge": "normalized"}}}):
        recipe = rm.recipes.get({"recipe": "spo_tree"} | table)
        with adapter.patch_compute_advantage():
            mine, returns = run(trainer, (tensors, others), "rollmath/spo_tree", config(rollmath=table))
            by_path, _ = run(trainer, (tensors, others | paths), "rollmath/spo_tree", config(rollmath=table))
        assert mine is returns
        assert mine.shape == (len(rewards), width)
        expected = recipe.prepare(rewards, others["uid"], rows=rows, forest=forest).advantages.to_padded(width=width)
        np.testing.assert_allclose(mine.numpy(), expected, atol=1e-6)
        assert np.abs(expected).max() > 0
        expected = recipe.prepare(rewards, others["uid"], rows=rows, **paths).advantages.to_padded(width=width)
        np.testing.assert_allclose(by_path.numpy(), expected, atol=1e-6)
        assert not mine[tensors["response_mask"] == 0].any()
    # By hand: every copy of a token has what its node has gained.
    values = forest.expand(rm.tree.spo(forest, rewards), per="rollout").to_padded(width=width)
    with adapter.patch_compute_advantage():
        mine, _ = run(
            trainer, (tensors, others), "rollmath/spo_tree", config(rollmath={"shared": "per_rollout", "zeros": "keep"})
        )
    np.testing.assert_allclose(mine.numpy(), values * tensors["response_mask"].numpy(), atol=1e-6)
    assert spo.shared == "once"


def test_trees_of_rollouts_and_prefixes(trainer):
    tensors, others, paths = trees(6)
    adapter.register()
    rewards, rows = tensors["token_level_rewards"].sum(1).numpy(), rows_of(tensors)
    renamed = {"tree": paths["paths"], "half": np.arange(len(rewards)) % 2}
    for name, columns_of, expected in (
        ("tree_grpo", {"paths": "tree"}, {"paths": paths["paths"]}),
        ("tree_grpo", {"sampled_jointly": "half"}, {"sampled_jointly": np.arange(len(rewards)) % 2}),
        ("tree_opo", {"paths": "tree"}, {"paths": paths["paths"]}),
        ("tree_rl", {}, {}),
    ):
        with adapter.patch_compute_advantage():
            mine, _ = run(
                trainer, (tensors, others | renamed), f"rollmath/{name}", config(rollmath={"columns": columns_of})
            )
        batch = rm.recipes.get(name).prepare(rewards, others["uid"], rows=rows, **expected)
        values = batch.advantages if batch.level == "token" else batch.rows.expand(batch.advantages)
        wanted = values.to_padded(width=mine.shape[1]) * tensors["response_mask"].numpy()
        np.testing.assert_allclose(mine.numpy(), wanted, atol=1e-6)


def test_trees_whose_columns_are_missing(trainer):
    tensors, others, _ = trees(7)
    adapter.register()
    with pytest.raises(ValueError, match=r"rollmath/spo_tree\(\): needs 'responses', .*patch_compute_advantage\(\)"):
        run(trainer, (tensors, others), "rollmath/spo_tree")
    with adapter.patch_compute_advantage():
        with pytest.raises(ValueError, match=r"rollmath/tree_opo\(\): needs 'paths', .* extra_fields"):
            run(trainer, (tensors, others), "rollmath/tree_opo")
        with pytest.raises(ValueError, match=r"unknown column in 'algorithm\.rollmath\.columns' 'forest'"):
            run(trainer, (tensors, others), "rollmath/spo_tree", config(rollmath={"columns": {"forest": "uid"}}))
