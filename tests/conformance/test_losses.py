"""The PPO loss, its gradient and its clip fractions beside verl's function and TRL's trainer."""

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: Losses of 1 / N-th of a token's size: float32 sums of a few hundred terms there, float64 sums here.
ATOL = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2, 3) for dtype in ATOL], ids=str)
def batch(request):
    """Padded log-probabilities of rows with gaps, one of them without a trained token; ratios from 0.1 to 10."""
    seed, dtype = request.param
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 12)
    width = int(lengths.max())
    mask = (np.arange(width) < lengths[:, None]) & (rng.random((12, width)) < 0.8)
    mask[3] = False
    prox = torch.from_numpy(-rng.gamma(1.0, 1.0, mask.shape)).to(dtype)
    theta = (prox + torch.from_numpy(rng.normal(scale=0.8, size=mask.shape))).to(dtype)
    advantages = torch.from_numpy(rng.normal(size=12)).to(dtype)
    packed = mask[np.arange(width) < lengths[:, None]]
    rows = rm.Rows(list(range(12)), lengths, mask=packed)
    return SimpleNamespace(
        theta=theta, prox=prox, advantages=advantages, mask=torch.from_numpy(mask).to(dtype), rows=rows, dtype=dtype
    )


def with_gradient(call, theta):
    theta = theta.clone().requires_grad_()
    loss, rest = call(theta)
    loss.backward()
    return loss.detach(), theta.grad, rest


def ours(batch, objective):
    def call(theta):
        logprobs = rm.LogProbs(theta, prox=batch.prox)
        normalizer = rm.loss.Normalizer.local(batch.rows)
        out = rm.loss.policy_loss(logprobs, batch.advantages, batch.rows, objective, normalizer=normalizer)
        return out.loss, out

    return with_gradient(call, batch.theta)


def test_verl(peer, batch, agree):
    algos = peer("verl.trainer.ppo.core_algos")
    actor = peer("verl.workers.config")
    config = actor.ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio=0.2,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=3.0,
    )

    def call(theta):
        advantages = batch.advantages[:, None].expand_as(theta)
        return algos.compute_policy_loss_vanilla(batch.prox, theta, advantages, batch.mask, "token-mean", config)

    loss, gradient, metrics = with_gradient(call, batch.theta)
    mine, mine_gradient, out = ours(batch, rm.loss.PPO(clip=(0.2, 0.28), dual_clip=3.0, max_log_ratio=20))
    name = f"verl compute_policy_loss_vanilla {str(batch.dtype)[6:]}"
    agree(name, mine, loss, atol=ATOL[batch.dtype])
    agree(f"{name}, gradient", mine_gradient, gradient, atol=ATOL[batch.dtype])
    agree(
        f"{name}, clip fraction",
        out.metrics["clip_high"] + out.metrics["clip_low"],
        metrics["actor/pg_clipfrac"],
        atol=1e-6,
    )
    agree(f"{name}, dual clip fraction", out.metrics["dual_clip"], metrics["actor/pg_clipfrac_lower"], atol=1e-6)
    assert min(metrics["actor/pg_clipfrac"], metrics["actor/pg_clipfrac_lower"]) > 0


def test_trl(peer, batch, agree):
    """``GRPOTrainer._compute_loss`` with ``loss_type="dapo"`` on a trainer that was never constructed."""
    trainer = object.__new__(peer("trl.trainer.grpo_trainer").GRPOTrainer)
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x)
    attributes = {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator,
        "args": SimpleNamespace(delta=None, steps_per_generation=1, use_bias_correction_kl=False),
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "beta": 0.0,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "use_adaptive_entropy": False,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in attributes.items():
        setattr(trainer, name, value)
    none = torch.zeros(len(batch.theta), 0, dtype=torch.long)
    ids = torch.zeros(batch.theta.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": none,
        "prompt_mask": none,
        "completion_ids": ids,
        "completion_mask": batch.mask,
        "advantages": batch.advantages,
        "old_per_token_logps": batch.prox,
        "num_items_in_batch": batch.mask.sum(),
    }

    def call(theta):
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (theta, torch.zeros_like(theta), None)
        return trainer._compute_loss(None, inputs), None

    loss, gradient, _ = with_gradient(call, batch.theta)
    mine, mine_gradient, _ = ours(batch, rm.loss.PPO(clip=(0.2, 0.28)))
    name = f"TRL GRPOTrainer._compute_loss (dapo) {str(batch.dtype)[6:]}"
    agree(name, mine, loss, atol=ATOL[batch.dtype])
    agree(f"{name}, gradient", mine_gradient, gradient, atol=ATOL[batch.dtype])
