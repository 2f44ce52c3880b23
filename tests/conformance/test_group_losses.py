"""TRL's A2PO loss, with its gradient, on a trainer made without its constructor."""

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("seed", range(3))
def test_a_star_po(peer, seed):
    import torch

    from rollmath.loss import a_star_po

    a2po = peer("trl.experimental.a2po.a2po_trainer")
    rng = np.random.default_rng(seed)
    logps, ref = rng.normal(-20, 3, (2, 7))
    rewards, groups, values = rng.normal(size=7), [0, 0, 0, 1, 1, 2, 0], rng.normal(size=3)
    theta = torch.tensor(logps, requires_grad=True)
    trainer = object.__new__(a2po.A2POTrainer)
    trainer.args, trainer.model = SimpleNamespace(beta2=0.05), SimpleNamespace(training=True)
    trainer._metrics = {"train": defaultdict(list)}
    trainer._get_sequence_logps = lambda *_: theta
    inputs = dict.fromkeys(("input_ids", "attention_mask", "logits_to_keep"))
    inputs |= {"ref_logps": torch.tensor(ref), "rewards": torch.tensor(rewards), "v_star": torch.tensor(values[groups])}
    theirs = trainer.compute_loss(None, inputs)
    theirs.backward()
    out = a_star_po(logps - ref, rewards, values, groups, beta2=0.05)
    assert_allclose(out.loss, theirs.detach(), rtol=1e-13)
    assert_allclose(out.coefficient, theta.grad, rtol=1e-12)
