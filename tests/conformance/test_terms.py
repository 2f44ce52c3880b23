"""KL terms, the value loss, aggregation and entropy beside verl's and TRL's functions, with their gradients."""

import importlib.util
from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

from rollmath.loss import KL, PPO, Aggregation, EntropyBonus, Normalizer, aggregate, kl_estimate, value_loss

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: Sums of float32 terms up to 10 there, float64 sums here.
ATOL = {torch.float32: 3e-6, torch.float64: 1e-12}


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2) for dtype in ATOL], ids=str)
def batch(request):
    """Padded rows with gaps, one without a trained token."""
    seed, dtype = request.param
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 12)
    width = int(lengths.max())
    inside = np.arange(width) < lengths[:, None]
    mask = inside & (rng.random((12, width)) < 0.8)
    mask[3] = False
    theta = torch.from_numpy(-rng.gamma(1.0, 1.0, mask.shape))
    others = torch.from_numpy(theta.numpy() + rng.normal(scale=0.8, size=(3, *mask.shape)))
    rows = rm.Rows(list(range(12)), lengths, mask=mask[inside])
    return SimpleNamespace(
        theta=theta.to(dtype),
        prox=others[0].to(dtype),
        ref=others[1].to(dtype),
        other=others[2].to(dtype),
        mask=torch.from_numpy(mask).to(dtype),
        rows=rows,
        norm=Normalizer.local(rows),
        dtype=dtype,
    )


def with_gradient(call, x):
    x = x.clone().requires_grad_()
    loss = call(x)
    loss.backward()
    return loss.detach(), x.grad


def compare(agree, batch, name, mine, theirs, x):
    (made, gradient), (expected, other) = with_gradient(mine, x), with_gradient(theirs, x)
    agree(f"{name} {str(batch.dtype)[6:]}", made, expected, atol=ATOL[batch.dtype])
    agree(f"{name} {str(batch.dtype)[6:]}, gradient", gradient, other, atol=ATOL[batch.dtype])


VERL_KL = {
    "k2": KL(1.0, "k2"),
    "mse": KL(1.0, "k2"),
    "abs": KL(1.0, "abs"),
    "k3": KL(1.0, "k3", max_log_ratio=20, max_value=10),
    "low_var_kl": KL(1.0, "k3", max_log_ratio=20, max_value=10),
    "k1+": KL(1.0, "k1", gradient="k2"),
    "kl+": KL(1.0, "k1", gradient="k2"),
    "k2+": KL(1.0, "k2"),
    "abs+": KL(1.0, "abs", gradient="k2"),
    "k3+": KL(1.0, "k3", gradient="k2", max_log_ratio=20, max_value=10),
}


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("kind", VERL_KL)
def test_verl_kl(peer, batch, agree, kind, scale):
    algos = peer("verl.trainer.ppo.core_algos")
    theta = batch.ref + scale * (batch.theta - batch.ref)

    def mine(x):
        zeros = np.zeros(12)
        lp = rm.LogProbs(x, ref=batch.ref)
        return rm.loss.policy_loss(lp, zeros, batch.rows, PPO(), normalizer=batch.norm, kl=VERL_KL[kind]).loss

    def theirs(x):
        return algos.agg_loss(algos.kl_penalty(x, batch.ref, kind), batch.mask, "token-mean")

    compare(agree, batch, f"verl kl_penalty ({kind})", mine, theirs, theta)


@pytest.mark.parametrize("kind", ["k1", "k2", "k3", "abs"])
def test_verl_kl_as_a_number(peer, batch, agree, kind):
    algos = peer("verl.trainer.ppo.core_algos")
    bounds = {"max_log_ratio": 20, "max_value": 10} if kind == "k3" else {}
    made = kl_estimate(batch.theta, batch.ref, kind=kind, **bounds)
    name = f"verl kl_penalty ({kind}) as a number {str(batch.dtype)[6:]}"
    agree(name, made, algos.kl_penalty(batch.theta, batch.ref, kind), atol=ATOL[batch.dtype])


VERL_MODES = {
    "token-mean": "token_mean",
    "token-sum": "token_sum",
    "seq-mean-token-sum": "seq_mean_token_sum",
    "seq-mean-token-mean": "seq_mean_token_mean",
    "seq-mean-token-sum-norm": Aggregation(unit="row", within="sum", divisor=50),
}


@pytest.mark.parametrize("mode", VERL_MODES)
def test_verl_aggregation(peer, batch, agree, mode):
    algos = peer("verl.trainer.ppo.core_algos")

    def mine(x):
        # Rows without a trained token are not counted in either; verl adds 1e-8 to the length of a row.
        return aggregate(x, batch.rows, normalizer=batch.norm, aggregation=VERL_MODES[mode])

    factor = 50 if mode.endswith("norm") else None
    sums = 100.0 if "sum" in mode else 1.0
    (made, gradient), (expected, other) = (
        with_gradient(mine, batch.other),
        with_gradient(lambda x: algos.agg_loss(x, batch.mask, mode, loss_scale_factor=factor), batch.other),
    )
    atol = max(sums * ATOL[batch.dtype], 1e-7 if mode == "seq-mean-token-mean" else 0)
    agree(f"verl agg_loss ({mode}) {str(batch.dtype)[6:]}", made, expected, atol=atol)
    agree(f"verl agg_loss ({mode}) {str(batch.dtype)[6:]}, gradient", gradient, other, atol=atol)


def test_verl_value_loss(peer, batch, agree):
    algos = peer("verl.trainer.ppo.core_algos")
    seen = {}

    def mine(x):
        out = value_loss(x, batch.ref, batch.rows, normalizer=batch.norm, old_values=batch.prox, clip=0.5)
        seen["mine"] = out.metrics["value_clip"]
        return out.loss

    def theirs(x):
        loss, seen["theirs"] = algos.compute_value_loss(x, batch.ref, batch.prox, batch.mask, 0.5)
        return loss

    compare(agree, batch, "verl compute_value_loss", mine, theirs, batch.theta)
    assert seen["mine"] > 0
    agree(f"verl compute_value_loss {str(batch.dtype)[6:]}, clip fraction", seen["mine"], seen["theirs"], atol=1e-6)


def test_verl_entropy(peer, batch, agree):
    """``compute_entropy_loss`` from logits, the bonus being minus the coefficient times it."""
    algos = peer("verl.trainer.ppo.core_algos")
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((*batch.mask.shape, 40), generator=generator, dtype=torch.float64).to(batch.dtype)

    def mine(x):
        bonus = EntropyBonus(rm.vocab.row_stats(x, outputs=("entropy",)).entropy, 0.1)
        lp = rm.LogProbs(batch.theta)
        return rm.loss.policy_loss(lp, np.zeros(12), batch.rows, PPO(), normalizer=batch.norm, entropy=bonus).loss

    def theirs(x):
        return -0.1 * algos.compute_entropy_loss(x, batch.mask)

    compare(agree, batch, "verl compute_entropy_loss", mine, theirs, logits)


@pytest.mark.parametrize("student", ["near", "far"])
def test_verl_top_k(peer, batch, agree, student):
    """verl's KL over the k tokens of the teacher: forward, without the tail."""
    losses = peer("verl.trainer.distillation.fsdp.losses")
    generator = torch.Generator().manual_seed(1)
    teacher, noise = 3 * torch.randn(2, 50, 200, generator=generator, dtype=torch.float64)
    x = (teacher + noise if student == "near" else noise).to(batch.dtype)
    known, ids = torch.log_softmax(teacher.to(batch.dtype), -1).topk(8)

    def theirs(x):
        log_q = torch.log_softmax(x, -1).gather(-1, ids)
        # kl_divergence() casts to float32 whatever comes in.
        return losses.kl_divergence(log_q=log_q, log_p=known).sum()

    (made, gradient), (expected, other) = (
        with_gradient(lambda x: rm.vocab.top_k_kl(x, ids, known, direction="forward", tail=False).sum(), x),
        with_gradient(theirs, x),
    )
    agree("verl kl_divergence of the top k", made / 50, expected / 50, atol=1e-5)
    agree("verl kl_divergence of the top k, gradient", gradient, other, atol=1e-5)


@pytest.mark.parametrize("importance", [None, "ratio"])
def test_trl_kl(peer, batch, agree, importance):
    """The KL term of ``GRPOTrainer._compute_loss`` (dapo) on a trainer that was never constructed."""
    trainer = object.__new__(peer("trl.trainer.grpo_trainer").GRPOTrainer)
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x)
    attributes = {
        "model": SimpleNamespace(training=True),
        "accelerator": accelerator,
        "args": SimpleNamespace(delta=None, steps_per_generation=1, use_bias_correction_kl=importance == "ratio"),
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "beta": 0.4,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "use_vllm": False,
        "aux_loss_enabled": False,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": True,
        "use_adaptive_entropy": False,
        "entropy_coef": 0.3,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in attributes.items():
        setattr(trainer, name, value)
    none = torch.zeros(12, 0, dtype=torch.long)
    inputs = {
        "prompt_ids": none,
        "prompt_mask": none,
        "completion_ids": torch.zeros(batch.theta.shape, dtype=torch.long),
        "completion_mask": batch.mask,
        "advantages": torch.linspace(-1, 1, 12, dtype=batch.dtype),
        "old_per_token_logps": batch.prox,
        "ref_per_token_logps": batch.ref,
        "num_items_in_batch": batch.mask.sum(),
    }

    def theirs(x):
        trainer._get_per_token_logps_and_entropies = lambda *_, **__: (x[0], x[1], None)
        return trainer._compute_loss(None, inputs)

    def mine(x):
        return rm.loss.policy_loss(
            rm.LogProbs(x[0], prox=batch.prox, ref=batch.ref),
            inputs["advantages"],
            batch.rows,
            PPO(clip=(0.2, 0.28)),
            normalizer=batch.norm,
            kl=KL(0.4, importance=importance),
            entropy=EntropyBonus(x[1], 0.3),
        ).loss

    name = "TRL GRPOTrainer._compute_loss (dapo, KL" + (" times the ratio" if importance else "") + ", entropy)"
    compare(agree, batch, name, mine, theirs, torch.stack([batch.theta, batch.other]))
