"""verl's one-number-a-rollout estimators beyond GRPO and RLOO, called live on the same batches."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

VERL = rm.conventions.VERL


@pytest.fixture(scope="module")
def algos(peer):
    return peer("verl.trainer.ppo.core_algos")


def tolerance(batch):
    return 2e-6 if batch.rewards.dtype == np.float32 else 1e-12


def tensors(batch):
    import torch

    return torch.from_numpy(batch.token_rewards()), torch.from_numpy(batch.mask)


def expand(ours, batch):
    return ours[:, None] * batch.mask


def test_dr_grpo(algos, batch, agree):
    rewards, mask = tensors(batch)
    theirs, _ = algos.compute_grpo_outcome_advantage(rewards, mask, batch.ids, norm_adv_by_std_in_grpo=False)
    ours = rm.group.dr_grpo(batch.rewards, batch.ids, convention=VERL)
    agree(f"verl dr_grpo {batch.rewards.dtype}", expand(ours, batch), theirs, atol=tolerance(batch))


def test_opo(algos, batch, agree):
    theirs, _ = algos.compute_opo_outcome_advantage(*tensors(batch), batch.ids)
    ours = rm.group.opo(batch.rewards, batch.ids, batch.lengths, convention=VERL)
    agree(f"verl opo {batch.rewards.dtype}", expand(ours, batch), theirs, atol=tolerance(batch))


def test_gpg(algos, batch, agree):
    for f_norm in (1.0, 0.3):
        rewards, mask = tensors(batch)
        theirs, _ = algos.compute_gpg_outcome_advantage(rewards, mask, batch.ids, f_norm=f_norm)
        ours = rm.group.gpg(batch.rewards, batch.ids, f_norm=f_norm, convention=VERL, **VERL.options["gpg"])
        # Their alpha is a float32, whatever the rewards are.
        agree(f"verl gpg {batch.rewards.dtype}", expand(ours, batch), theirs, atol=2e-6)


def test_remax(algos, batch, agree):
    import torch

    rewards, mask = tensors(batch)
    greedy = np.random.default_rng(0).normal(size=len(batch.rewards)).astype(batch.rewards.dtype)
    theirs, _ = algos.compute_remax_outcome_advantage(rewards, torch.from_numpy(greedy), mask)
    ours = rm.group.remax(batch.rewards, greedy, convention=VERL)
    agree(f"verl remax {batch.rewards.dtype}", expand(ours, batch), theirs, atol=tolerance(batch))


@pytest.mark.parametrize("scale", ["std", "none"])
def test_passk(algos, batch, agree, scale):
    groups = rm.Groups(batch.ids)
    several = groups.counts[groups.index] > 1
    rewards, mask = (x[several] for x in tensors(batch))
    config = {"norm_adv_by_std_in_grpo": scale == "std"}
    theirs, _ = algos.compute_grpo_passk_outcome_advantage(rewards, mask, batch.ids[several], config=config)
    assert VERL.options["passk"] == {"scale": "std"}
    ours = rm.group.passk(batch.rewards[several], batch.ids[several], scale=scale, convention=VERL)
    agree(f"verl grpo_passk {batch.rewards.dtype}", ours[:, None] * batch.mask[several], theirs, atol=tolerance(batch))


def test_passk_refuses_groups_of_one_as_ours_does(algos):
    import torch

    with pytest.raises(ValueError, match="at least 2 samples per group"):
        algos.compute_grpo_passk_outcome_advantage(torch.ones(1, 1), torch.ones(1, 1), np.array(["a"]), config={})
    with pytest.raises(ValueError, match="one valid member"):
        rm.group.passk([1.0], ["a"], convention=VERL)


def gdpo_of_theirs(algos, batch, table, weights, **options):
    """Their rewards come by name, and the reward of a channel is put on the last token of the attention mask."""
    import torch

    rewards, mask = tensors(batch)
    names = [f"reward_{c}" for c in range(table.shape[1])]
    config = {"gdpo_reward_keys": names, "gdpo_reward_weights": weights}
    given = {
        "prompts": torch.zeros(len(table), 3),
        "attention_mask": torch.cat([torch.ones(len(table), 3), mask], dim=1).long(),
    }
    scores = {name: table[:, c] for c, name in enumerate(names)}
    function = algos.compute_gdpo_outcome_advantage
    return function(rewards, mask, batch.ids, config=config, non_tensor_batch=scores, batch=given, **options)[0]


@pytest.mark.parametrize("scale", ["std", "none"])
def test_gdpo(algos, batch, agree, scale):
    rng = np.random.default_rng(len(batch.rewards))
    table = np.stack([batch.rewards, rng.integers(0, 2, len(batch.rewards)), rng.normal(size=len(batch.rewards))], 1)
    table, weights = table.astype(np.float32), [1.0, 0.5, 0.25]
    theirs = gdpo_of_theirs(algos, batch, table, weights, norm_adv_by_std_in_grpo=scale == "std")
    options = {"weights": weights, "lengths": batch.lengths, "scale": scale}
    ours = rm.group.gdpo(table, batch.ids, convention=VERL, **options)
    # They add 1e-8 to the number of tokens, and compute in float32.
    agree("verl gdpo float32", expand(ours, batch), theirs, atol=2e-6)


def test_gdpo_of_one_channel_whitens_grpo(algos, batch, agree):
    theirs, _ = algos.compute_gdpo_outcome_advantage(*tensors(batch), batch.ids)
    ours = rm.group.gdpo(batch.rewards[:, None], batch.ids, lengths=batch.lengths, convention=VERL)
    agree(f"verl gdpo, one channel {batch.rewards.dtype}", expand(ours, batch), theirs, atol=2e-6)


def test_whitening_makes_a_residue_an_advantage(algos):
    """Two prompts without spread. Three float32 rewards of 1000.1 leave GRPO a residue of 0.81 and three of 1 none,
    and whitening takes that difference for the signal of the batch."""
    import torch

    rewards, ids = np.float32([1000.1] * 3 + [1.0] * 3), np.array([0, 0, 0, 1, 1, 1])
    theirs, _ = algos.compute_gdpo_outcome_advantage(torch.from_numpy(rewards)[:, None], torch.ones(6, 1), ids)
    np.testing.assert_allclose(theirs[:, 0].abs().numpy(), 0.913, atol=1e-3)
    assert not rm.group.gdpo(rewards[:, None], ids, convention=VERL, lengths=[1] * 6).any()


def test_gpg_scales_by_the_rewards_that_are_not_zero(algos):
    """A shift of the rewards changes nothing but which of them are 0, and doubles or halves the advantages."""
    import torch

    ids, ones = np.array([0, 0, 0, 0]), torch.ones(4, 1)
    for shift, alpha in ((0.0, 4.0), (1.0, 1.0)):
        rewards = torch.tensor([[1.0], [0.0], [0.0], [0.0]]) + shift
        theirs, _ = algos.compute_gpg_outcome_advantage(rewards.clone(), ones, ids)
        np.testing.assert_allclose(theirs[:, 0], alpha * np.array([0.75, -0.25, -0.25, -0.25]))
        ours = rm.group.gpg(rewards[:, 0].numpy(), ids)
        np.testing.assert_allclose(ours, [0.75, -0.25, -0.25, -0.25])


def test_opo_without_tokens_is_nan_there_and_an_error_here(algos):
    import torch

    scores, mask = torch.zeros(2, 1), torch.zeros(2, 1)
    theirs, _ = algos.compute_opo_outcome_advantage(scores, mask, np.array([0, 0]))
    assert np.isnan(theirs.numpy()).all()
    with pytest.raises(ValueError, match="'lengths' must not all be 0 in a group"):
        rm.group.opo([0.0, 0.0], [0, 0], [0, 0], convention=VERL)
