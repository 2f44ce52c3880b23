"""verl's policy filtration: the weights that it draws with, and what it draws."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

MODES = {"pow": "power", "max_min": "max_min", "max_random": "max_random"}


@pytest.fixture
def filtration(peer, monkeypatch):
    """verl's weights of rollouts with one reward each, and the rows that it drew."""
    import torch

    algos, data = peer("verl.trainer.ppo.core_algos"), peer("verl").DataProto
    draw, seen = torch.multinomial, []

    def watched(weights, n, replacement):
        seen.append(weights.numpy().copy())
        return draw(weights, n, replacement=replacement)

    def call(token_rewards, mode, power):
        monkeypatch.setattr(torch, "multinomial", watched)
        scores = torch.from_numpy(token_rewards)
        batch = data.from_dict({"token_level_scores": scores, "row": torch.arange(len(scores))})
        out = algos.compute_pf_ppo_reweight_data(batch, reweight_method=mode, weight_pow=power)
        monkeypatch.undo()
        return seen[-1], out.batch["row"].numpy()

    return call


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("power", [2.0, 0.5])
def test_weights(filtration, batch, agree, mode, power):
    theirs, drawn = filtration(batch.token_rewards(), mode, power)
    ours = rm.select.policy_filtration(batch.rewards, batch.ids, how=MODES[mode], power=power, per="batch").weights
    assert ours.dtype == batch.rewards.dtype
    # They add 1e-8, in float32 for two of the three.
    agree(f"verl pf_ppo {mode} {batch.rewards.dtype}", ours + 1e-8, theirs, atol=1e-6)
    assert len(drawn) == len(batch.rewards)


@pytest.mark.parametrize("mode", MODES)
def test_draws_have_the_same_expectation(filtration, mode):
    rewards = np.array([0.5, 2.0, 2.0, -1.0, 0.25, 1.5], np.float32)
    ours = rm.select.policy_filtration(rewards, np.zeros(6, int), how=MODES[mode], per="batch").weights
    import torch

    torch.manual_seed(0)
    theirs = np.concatenate([filtration(rewards[:, None], mode, 2.0)[1] for _ in range(500)])
    share = ours / ours.sum()
    # Five standard deviations of 3000 draws.
    for rows in (theirs, rm.select.resample(ours, n=3000, how="multinomial", seed=0)):
        times = np.bincount(rows, minlength=6)
        assert (np.abs(times - 3000 * share) <= 5 * np.sqrt(3000 * share * (1 - share)) + 1e-9).all()
