"""verl's and TRL's own overlong penalties, called live."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

LENGTHS = np.arange(0, 140, 3)
needs_trl = pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="trl is not installed")
needs_verl = pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="verl is not installed")
if importlib.util.find_spec("trl") is None and importlib.util.find_spec("verl") is None:
    pytest.skip("no peer; `make test-peers` has an environment with them", allow_module_level=True)


@needs_trl
@pytest.mark.parametrize("buffer", [0, 1, 20, 100])
def test_trl_soft_overlong_punishment(peer, agree, buffer):
    function = peer("trl.rewards").get_soft_overlong_punishment(max_completion_len=100, soft_punish_cache=buffer)
    theirs = function([[1] * n for n in LENGTHS])
    ours = rm.group.overlong_penalty(LENGTHS, max_length=100, buffer=buffer)
    agree("TRL soft_overlong_punishment", ours, theirs, atol=1e-15)


def dapo_manager_rewards(peer, lengths, *, max_length, buffer, factor):
    """What verl's reward manager adds to a score of 0 for responses of these lengths."""
    import torch

    class Tokenizer:
        eos_token = "</s>"

        def decode(self, ids, **_):
            return "text"

    manager = peer("verl.workers.reward_manager.dapo").DAPORewardManager(
        Tokenizer(),
        num_examine=0,
        compute_score=lambda **_: 0.0,
        max_resp_len=max_length,
        overlong_buffer_cfg=SimpleNamespace(enable=True, len=buffer, penalty_factor=factor, log=False),
    )
    rows, width = len(lengths), int(max(lengths))
    mask = (torch.arange(width)[None] < torch.tensor(np.asarray(lengths))[:, None]).long()
    data = peer("verl").DataProto.from_dict(
        tensors={
            "prompts": torch.ones(rows, 1, dtype=torch.long),
            "responses": torch.ones(rows, width, dtype=torch.long),
            "attention_mask": torch.cat([torch.ones(rows, 1, dtype=torch.long), mask], dim=1),
        },
        non_tensors={
            "reward_model": np.array([{"ground_truth": ""}] * rows, dtype=object),
            "data_source": np.array(["any"] * rows, dtype=object),
            "extra_info": np.array([{} for _ in range(rows)], dtype=object),
        },
    )
    return manager(data).sum(dim=-1).numpy()


@needs_verl
@pytest.mark.parametrize(("buffer", "factor"), [(20, 1.0), (33, 0.5), (100, 2.0)])
def test_verl_dapo_reward_manager(peer, agree, buffer, factor):
    lengths = LENGTHS[LENGTHS > 0]
    theirs = dapo_manager_rewards(peer, lengths, max_length=100, buffer=buffer, factor=factor)
    ours = rm.group.overlong_penalty(lengths, max_length=100, buffer=buffer, factor=factor, capped=False)
    # The manager computes in float32.
    agree("verl DAPORewardManager, overlong float32", ours, theirs, atol=5e-7)


@needs_verl
def test_verl_does_not_cap_the_penalty(peer):
    """A response longer than the limit, as several turns may be, loses more than the factor there."""
    theirs = dapo_manager_rewards(peer, [140], max_length=100, buffer=20, factor=1.0)
    assert theirs.tolist() == [-3.0]
    assert rm.group.overlong_penalty([140], max_length=100, buffer=20).tolist() == [-1.0]
