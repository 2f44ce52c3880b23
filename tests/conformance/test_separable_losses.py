"""Objectives of single tokens beside verl's registered losses and TRL's trainer: loss, gradient, clip fractions."""

import importlib.util
import math
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: Means over a few hundred tokens: float32 sums there, float64 sums here.
ATOL = {torch.float32: 2e-6, torch.float64: 1e-12}


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2, 3) for dtype in ATOL], ids=str)
def batch(request):
    """Padded rows with gaps, one of them without a trained token, one advantage 0; ratios from 0.1 to 10."""
    seed, dtype = request.param
    rng = np.random.default_rng([seed, 5])
    lengths = rng.integers(1, 30, 12)
    width = int(lengths.max())
    inside = np.arange(width) < lengths[:, None]
    mask = inside & (rng.random(inside.shape) < 0.8)
    mask[3] = False
    prox = np.log(rng.uniform(0.02, 0.98, mask.shape))
    theta = np.minimum(prox + rng.normal(scale=0.8, size=mask.shape), -1e-3)
    advantages = rng.normal(size=12)
    advantages[5] = 0
    as_tensor = lambda x: torch.from_numpy(np.asarray(x)).to(dtype)  # noqa: E731
    return SimpleNamespace(
        theta=as_tensor(theta),
        prox=as_tensor(prox),
        advantages=as_tensor(advantages),
        mask=as_tensor(mask),
        rows=rm.Rows(list(range(12)), lengths, mask=mask[inside]),
        dtype=dtype,
    )


def with_gradient(call, theta):
    theta = theta.clone().requires_grad_()
    loss, rest = call(theta)
    loss.backward()
    return loss.detach(), theta.grad, rest


def ours(batch, objective, aggregation):
    def call(theta):
        out = rm.loss.policy_loss(
            rm.LogProbs(theta, prox=batch.prox),
            batch.advantages,
            batch.rows,
            objective,
            normalizer=rm.loss.Normalizer.local(batch.rows),
            aggregation=aggregation,
        )
        return out.loss, out.metrics

    return with_gradient(call, batch.theta)


VERL = {
    "gpg": (rm.loss.Reinforce(), {}),
    "cispo": (rm.loss.CISPO(clip=(0.2, 0.28), max_log_ratio=20), {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}),
    "sapo": (rm.loss.SAPO(1.2, 1.4, max_log_ratio=20), {"tau_pos": 1.2, "tau_neg": 1.4}),
    "dppo_tv": (
        rm.loss.DPPO("tv", bounds=(0.1, 0.15), cap=3.0),
        {"clip_ratio_low": 0.1, "clip_ratio_high": 0.15, "clip_ratio_c": 3.0},
    ),
    "dppo_kl": (
        rm.loss.DPPO("kl", bounds=(0.02, 0.03), cap=3.0),
        {"clip_ratio_low": 0.02, "clip_ratio_high": 0.03, "clip_ratio_c": 3.0},
    ),
    "dro": (rm.loss.Quadratic(0.3), {"dro_beta": 0.3}),
}


@pytest.mark.parametrize("name", VERL)
def test_verl(peer, batch, agree, name):
    algos, workers = peer("verl.trainer.ppo.core_algos"), peer("verl.workers.config")
    objective, options = VERL[name]
    options = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.2} | options
    policy_loss = workers.PolicyLossConfig(loss_mode=name, dro_beta=options.pop("dro_beta", None))
    config = workers.ActorConfig(strategy="fsdp", rollout_n=1, use_dynamic_bsz=True, policy_loss=policy_loss, **options)
    aggregation = "seq_mean_token_mean" if name == "sapo" else "token_mean"

    def call(theta):
        advantages = batch.advantages[:, None].expand_as(theta)
        function = algos.get_policy_loss_fn(name)
        return function(batch.prox, theta, advantages, batch.mask, aggregation.replace("_", "-"), config)

    loss, gradient, metrics = with_gradient(call, batch.theta)
    mine, mine_gradient, seen = ours(batch, objective, aggregation)
    title = f"verl {name} {str(batch.dtype)[6:]}"
    # Its mean over a row divides by the number of tokens plus 1e-8.
    atol = max(ATOL[batch.dtype], 1e-8) if name == "sapo" else ATOL[batch.dtype]
    agree(title, mine, loss, atol=atol)
    agree(f"{title}, gradient", mine_gradient, gradient, atol=atol)
    if name == "cispo":
        agree(f"{title}, clip fraction", seen["clip_high"] + seen["clip_low"], metrics["actor/pg_clipfrac"], atol=1e-6)
    if name.startswith("dppo"):
        # verl's fraction has tokens of advantage 0 too, whose loss and gradient are 0; none may be hidden by that.
        lost = (batch.mask.bool() & (mine_gradient == 0) & (batch.advantages != 0)[:, None]).sum() / batch.mask.sum()
        agree(f"{title}, kept", seen["clip_high"] + seen["clip_low"], lost, atol=1e-6)
        assert 0 < lost <= metrics["actor/pg_clipfrac"] + 1e-6


TRL = {
    "cispo": (rm.loss.CISPO(cap=1.5), "token_mean", {"epsilon_low": 0.2, "epsilon_high": 1.5}),
    "sapo": (
        rm.loss.SAPO(1.0, 1.5),
        rm.loss.Aggregation(unit="row", empty="include"),
        {"epsilon_low": 0.2, "epsilon_high": 0.2},
    ),
}


@pytest.mark.parametrize("name", TRL)
def test_trl(peer, batch, agree, name):
    """``GRPOTrainer._compute_loss`` on a trainer that was never constructed."""
    objective, aggregation, options = TRL[name]
    trainer = object.__new__(peer("trl.trainer.grpo_trainer").GRPOTrainer)
    # 1.5 is a float32 too: TRL chooses between the temperatures in float32 whatever the dtype of the rest.
    temperatures = {"sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.5}
    attributes = {
        "model": SimpleNamespace(training=True),
        "accelerator": SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x),
        "args": SimpleNamespace(delta=None, steps_per_generation=1, use_bias_correction_kl=False, **temperatures),
        "loss_type": name,
        "importance_sampling_level": "token",
        "beta": 0.0,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "use_adaptive_entropy": False,
        "_metrics": {"train": defaultdict(list)},
        **options,
    }
    for attribute, value in attributes.items():
        setattr(trainer, attribute, value)
    none = torch.zeros(len(batch.theta), 0, dtype=torch.long)
    inputs = {
        "prompt_ids": none,
        "prompt_mask": none,
        "completion_ids": torch.zeros(batch.theta.shape, dtype=torch.long),
        "completion_mask": batch.mask,
        "advantages": batch.advantages,
        "old_per_token_logps": batch.prox,
        "num_items_in_batch": batch.mask.sum(),
    }

    def call(theta):
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (theta, torch.zeros_like(theta), None)
        return trainer._compute_loss(None, inputs), None

    loss, gradient, _ = with_gradient(call, batch.theta)
    mine, mine_gradient, _ = ours(batch, objective, aggregation)
    title = f"TRL GRPOTrainer._compute_loss ({name}) {str(batch.dtype)[6:]}"
    agree(title, mine, loss, atol=ATOL[batch.dtype])
    agree(f"{title}, gradient", mine_gradient, gradient, atol=ATOL[batch.dtype])
    assert math.isfinite(loss)
