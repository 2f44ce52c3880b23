"""What verl's own functions return is recognised as verl's."""

import importlib.util

import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

FUNCTIONS = {
    "grpo": "compute_grpo_outcome_advantage",
    "rloo": "compute_rloo_outcome_advantage",
    "rloo_vectorized": "compute_rloo_vectorized_outcome_advantage",
}


@pytest.mark.parametrize("method", FUNCTIONS)
def test_verl_is_recognised(peer, batch, method):
    import torch

    function = getattr(peer("verl.trainer.ppo.core_algos"), FUNCTIONS[method])
    token_rewards, mask = torch.from_numpy(batch.token_rewards()), torch.from_numpy(batch.mask)
    advantages, _ = function(token_rewards, mask, batch.ids)
    found = rm.audit(
        batch.rewards,
        batch.ids,
        rm.Ragged.from_padded(advantages, lengths=batch.lengths),
        convention=rm.conventions.VERL,
    )
    assert f"VERL {method}" in found.matches[0].names
    assert found.matches[0].off == 0
    assert {f.kind for f in found.findings} <= {"uneven groups", "lone reward"}
    if method == "grpo":
        assert found.asked is found.matches[0]
    # And nothing that verl does not do: a group of one tells the two rloo apart.
    other = {"rloo": "VERL rloo_vectorized", "rloo_vectorized": "VERL rloo"}.get(method, "TRL grpo")
    assert other not in found.matches[0].names
