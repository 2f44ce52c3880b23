"""verl's advantage functions, called live on the same batches."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

# Importing the trainers takes most of a minute where the disk is slow.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

VERL = rm.conventions.VERL


@pytest.fixture(scope="module")
def algos(peer):
    return peer("verl.trainer.ppo.core_algos")


def run(function, batch, **options):
    """The peer's [B, T] advantages, and the mask by which ours are expanded."""
    import torch

    token_rewards = torch.from_numpy(batch.token_rewards())
    advantages, returns = function(token_rewards, torch.from_numpy(batch.mask), batch.ids, **options)
    assert torch.equal(advantages, returns)
    return advantages.numpy()


def tolerance(batch, *, single=False):
    """verl computes in the dtype of the rewards, except where it casts to float32 (`single`)."""
    return 2e-6 if single or batch.rewards.dtype == np.float32 else 1e-12


def test_the_version_is_the_one_that_the_convention_names(peer):
    assert peer("verl").__version__.startswith("0.9.")


def test_grpo(algos, batch, agree):
    ours = rm.group.grpo(batch.rewards, batch.ids, convention=VERL)[:, None] * batch.mask
    theirs = run(algos.compute_grpo_outcome_advantage, batch)
    groups = rm.Groups(batch.ids)
    alone = groups.counts[groups.index] == 1
    agree(f"verl grpo {batch.rewards.dtype}", ours[~alone], theirs[~alone], atol=tolerance(batch))
    # The standard deviation 1 of a group of one is a float32 there, whatever the rewards are: 1 + 1e-6 is rounded.
    agree(f"verl grpo, groups of one {batch.rewards.dtype}", ours[alone], theirs[alone], atol=1e-6)


def test_grpo_without_std(algos, batch, agree):
    ours = rm.group.grpo(batch.rewards, batch.ids, scale="none", convention=VERL)
    theirs = run(algos.compute_grpo_outcome_advantage, batch, norm_adv_by_std_in_grpo=False)
    agree(f"verl grpo, no std {batch.rewards.dtype}", ours[:, None] * batch.mask, theirs, atol=tolerance(batch))


@pytest.mark.parametrize("std", [True, False])
def test_grpo_vectorized(algos, batch, agree, std):
    ours = rm.group.grpo(batch.rewards, batch.ids, scale="std" if std else "none", convention=VERL)
    function = algos.compute_grpo_vectorized_outcome_advantage
    theirs = run(function, batch, norm_adv_by_std_in_grpo=std)
    atol = tolerance(batch, single=True)
    name = f"verl grpo_vectorized{'' if std else ', no std'} {batch.rewards.dtype}"
    agree(name, ours[:, None] * batch.mask, theirs, atol=atol)


def test_rloo(algos, batch, agree):
    ours = rm.group.rloo(batch.rewards, batch.ids, convention=VERL)
    theirs = run(algos.compute_rloo_outcome_advantage, batch)
    agree(f"verl rloo {batch.rewards.dtype}", ours[:, None] * batch.mask, theirs, atol=tolerance(batch))


def test_rloo_vectorized(algos, batch, agree):
    ours = rm.group.rloo(batch.rewards, batch.ids, convention=VERL["rloo_vectorized"])
    theirs = run(algos.compute_rloo_vectorized_outcome_advantage, batch)
    agree(f"verl rloo_vectorized {batch.rewards.dtype}", ours[:, None] * batch.mask, theirs, atol=tolerance(batch))


def one(algos, name, rewards, ids):
    import torch

    function = getattr(algos, f"compute_{name}_outcome_advantage")
    return function(torch.from_numpy(np.asarray(rewards))[:, None], torch.ones(len(rewards), 1), np.array(ids))[0][
        :, 0
    ].tolist()


def test_a_group_of_one_keeps_its_reward_except_in_rloo_vectorized(algos):
    assert one(algos, "grpo", [0.75], ["a"]) == [pytest.approx(0.75 / (1 + 1e-6))]
    assert one(algos, "grpo_vectorized", [0.75], ["a"]) == [pytest.approx(0.75 / (1 + 1e-6))]
    assert one(algos, "rloo", [0.75], ["a"]) == [0.75]
    assert one(algos, "rloo_vectorized", [0.75], ["a"]) == [0.0]
    assert rm.group.rloo([0.75], ["a"], convention=VERL).tolist() == [0.75]
    assert rm.group.rloo([0.75], ["a"], convention=VERL["rloo_vectorized"]).tolist() == [0.0]


@pytest.mark.parametrize("name", ["grpo", "grpo_vectorized"])
def test_the_residue_of_a_constant_group_is_theirs_alone(algos, name):
    """The float32 mean of equal float32 rewards need not equal them, and what is left is divided by little but itself.

    Three numbers add up in one way only, so the first figure is the same on every machine.
    """
    rewards = np.full(3, 1000.1, np.float32)
    assert np.abs(one(algos, name, rewards, [0] * 3)) == pytest.approx(0.806, abs=1e-3)
    assert np.abs(one(algos, name, np.full(8, 0.3, np.float32), [0] * 8)).max() < 0.1
    for size, reward in [(3, 1000.1), (8, 0.3)]:
        ours = rm.group.grpo(np.full(size, reward, np.float32), [0] * size, convention=VERL)
        assert not ours.any()


def test_grpo_vectorized_rounds_the_mean_of_float64_rewards(algos):
    """Two float64 rewards of 1000.1 differ from their float32 mean by 2.4e-5, which eps blows up to 24."""
    assert np.abs(one(algos, "grpo_vectorized", [1000.1, 1000.1], [0, 0])) == pytest.approx(24.41, abs=0.01)
    assert not rm.group.grpo([1000.1, 1000.1], [0, 0], convention=VERL).any()


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_nan_spreads_over_the_group_there_and_is_an_error_here(algos, name):
    rewards, ids = [1.0, float("nan"), 0.0, 1.0], ["a", "a", "b", "b"]
    theirs = one(algos, name, rewards, ids)
    ours = getattr(rm.group, name)(rewards, ids, convention=VERL, nan="propagate")
    np.testing.assert_array_equal(np.isnan(theirs), [True, True, False, False])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    with pytest.raises(ValueError, match="rewards"):
        getattr(rm.group, name)(rewards, ids, convention=VERL)


def test_grpo_vectorized_merges_ids_that_read_as_one_integer(algos):
    """Ids of strings are read as numbers there: "7", "07" and " 7" are one group of three."""
    rewards, ids = [1.0, 0.0, 0.5], ["7", "07", " 7"]
    assert one(algos, "grpo_vectorized", rewards, ids) == pytest.approx([1.0, -1.0, 0.0], abs=1e-5)
    assert one(algos, "grpo", rewards, ids) == pytest.approx(rewards, abs=1e-5)
    assert rm.group.grpo(rewards, ids, convention=VERL).tolist() == pytest.approx(rewards, abs=1e-5)


@pytest.mark.parametrize("name", ["grpo", "grpo_vectorized", "rloo"])
def test_the_order_of_rows_changes_bits_there_and_none_here(algos, same_bits, name):
    rng = np.random.default_rng(0)
    rewards, ids = rng.normal(size=1600).astype(np.float32), np.repeat(np.arange(200), 8)
    order = rng.permutation(1600)
    method = getattr(rm.group, name.partition("_")[0])
    same_bits(method(rewards, ids)[order], method(rewards[order], ids[order]))
    theirs = np.array(one(algos, name, rewards, ids)), np.array(one(algos, name, rewards[order], ids[order]))
    assert 0 < np.abs(theirs[0][order] - theirs[1]).max() < 2e-6
