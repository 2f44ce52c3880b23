"""All policy losses of verl's registry and all loss types of TRL: what is ours for each, and how theirs is called."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import torch

import rollmath as rm
from rollmath.loss import Aggregation, EntropyBonus, Normalizer, Objective, policy_loss

#: Losses of 1 / N-th of a token's size: float32 sums of a few hundred terms there, float64 sums here.
ATOL = {torch.float32: 1e-6, torch.float64: 1e-12}
TRL_ROWS = Aggregation(unit="row", empty="include")
LONGEST = 64


@dataclass(frozen=True)
class Entry:
    """One loss of a peer: our objective by name, its options, and what the peer is told.

    Attributes:
        aggregation: ours, where the peer does not use the one it is told.
        theirs: attributes and arguments of TRL's trainer.
        policy: fields of verl's PolicyLossConfig.
        weighs: whether verl multiplies each token by the weight that it is given.
        adds_up: whether the peer's losses of micro-batches add up to that of the batch, if it is told the counts of it.
        atol: of float64, where the peer adds a small number to a denominator.
        kl: options of our KL term.
    """

    objective: str
    options: Mapping = field(default_factory=dict)
    aggregation: str | Aggregation | None = None
    theirs: Mapping = field(default_factory=dict)
    policy: Mapping = field(default_factory=dict)
    weighs: bool = True
    adds_up: bool = True
    atol: float | None = None
    kl: Mapping | None = None

    def made(self) -> Objective:
        return getattr(rm.loss, self.objective)(**self.options)


CLIP = {"clip": (0.2, 0.28)}
BY_ROW = CLIP | {"unit": "row"}
VANILLA = Entry("PPO", CLIP | {"dual_clip": 3.0, "max_log_ratio": 20})

#: verl's name of each policy loss, with ``clip_ratio_low`` 0.2, ``clip_ratio_high`` 0.28, ``clip_ratio_c`` 3.
VERL = {
    "vanilla": VANILLA,
    # With its default, ppo_clip, and without rejection it is vanilla, with behaviour for prox.
    "bypass_mode": replace(VANILLA, weighs=False),
    "gspo": Entry("GSPO", CLIP | {"unit": "row", "gradient": "token", "max_log_ratio": 10}),
    # seq-mean-token-mean whatever it is told.
    "sapo": Entry("SAPO", {"max_log_ratio": 20}, aggregation="seq_mean_token_mean", atol=1e-8),
    "gpg": Entry("Reinforce"),
    "dro": Entry("Quadratic", {"beta": 0.5}, policy={"dro_beta": 0.5}),
    "cispo": Entry("CISPO", CLIP | {"max_log_ratio": 20}),
    "dppo_tv": Entry("DPPO", {"divergence": "tv", "bounds": (0.2, 0.28), "cap": 3.0}),
    "dppo_kl": Entry("DPPO", {"divergence": "kl", "bounds": (0.2, 0.28), "cap": 3.0}),
    # The mean of all rows of the call, also of those that have no trained token, whatever it is told.
    "geo_mean": Entry(
        "GMPO",
        {"log_clip": (0.2, 0.28), "unit": "row"},
        aggregation=TRL_ROWS,
        weighs=False,
        adds_up=False,
        atol=1e-8,
    ),
    # With a share of 1 all eligible tokens are taken, and nothing is random.
    "clip_cov": Entry("ClipCov", CLIP | {"share": 1.0}, policy={"clip_cov_ratio": 1.0}, adds_up=False),
    "kl_cov": Entry(
        "KLCov", {"share": 0.05, "coef": 0.1}, policy={"kl_cov_ratio": 0.05, "ppo_kl_coef": 0.1}, adds_up=False
    ),
}

#: TRL's ``loss_type`` and a word for the variant. Its ``epsilon``, ``epsilon_high`` are 0.2, 0.28.
TRL = {
    "grpo": Entry("PPO", CLIP, TRL_ROWS),
    "bnpo": Entry("PPO", CLIP, "token_mean", adds_up=False),
    "dr_grpo": Entry("PPO", CLIP, Aggregation(unit="row", within="sum", divisor=LONGEST, empty="include")),
    "dapo": Entry("PPO", CLIP, "token_mean"),
    "dapo, delta": Entry("PPO", CLIP | {"delta": 1.5}, "token_mean", {"delta": 1.5}),
    "dapo, delta below the clip": Entry("PPO", CLIP | {"delta": 1.1}, "token_mean", {"delta": 1.1}),
    "dapo, beta": Entry("PPO", CLIP, "token_mean", {"beta": 0.04}, kl={"coef": 0.04}),
    "grpo, beta": Entry("PPO", CLIP, TRL_ROWS, {"beta": 0.04}, kl={"coef": 0.04}),
    "dapo, beta, bias correction": Entry(
        "PPO",
        CLIP,
        "token_mean",
        {"beta": 0.04, "use_bias_correction_kl": True},
        kl={"coef": 0.04, "importance": "ratio"},
    ),
    "grpo, sequence": Entry("GSPO", BY_ROW, TRL_ROWS, {"importance_sampling_level": "sequence"}),
    "dapo, sequence": Entry("GSPO", BY_ROW, "token_mean", {"importance_sampling_level": "sequence"}),
    "cispo": Entry("CISPO", {"cap": 2.0}, "token_mean", {"epsilon_high": 2.0}),
    # Its temperatures are float32 whatever the log-probabilities are.
    "sapo": Entry("SAPO", {"tau_pos": 1.0, "tau_neg": 1.05}, TRL_ROWS, atol=1e-7),
    "sapo, temperatures of float32": Entry(
        "SAPO", {"tau_neg": 1.5}, TRL_ROWS, {"sapo_temperature_neg": 1.5}, atol=1e-12
    ),
    "vespo": Entry("VESPO", {"unit": "row"}, "token_mean"),
    "luspo": Entry("LUSPO", BY_ROW, TRL_ROWS, {"importance_sampling_level": "sequence"}),
    "luspo, token": Entry("PPO", CLIP, Aggregation(unit="row", within="sum", empty="include")),
}

#: TRL's experimental trainer of its own.
TRL_GMPO = Entry("GMPO", {"log_clip": (0.2, 0.28), "unit": "row"}, TRL_ROWS)


@dataclass
class Batch:
    """Padded columns of rows with gaps, one rollout each; ratios from 0.1 to 10."""

    theta: torch.Tensor
    prox: torch.Tensor
    ref: torch.Tensor
    entropy: torch.Tensor
    weight: torch.Tensor
    advantages: torch.Tensor
    mask: torch.Tensor
    rows: rm.Rows

    def take(self, picked: np.ndarray) -> "Batch":
        columns = [x[picked] for x in (self.theta, self.prox, self.ref, self.entropy, self.weight)]
        return Batch(*columns, self.advantages[picked], self.mask[picked], self.rows.take(picked))


def make_batch(seed: int, dtype: torch.dtype) -> Batch:
    """One of the rows has no trained token, another the advantage 0."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 12)
    width = int(lengths.max())
    mask = (np.arange(width) < lengths[:, None]) & (rng.random((12, width)) < 0.8)
    mask[3] = False
    prox = torch.from_numpy(-rng.gamma(1.0, 1.0, mask.shape) - 1e-3).to(dtype)
    noise = (torch.from_numpy(rng.normal(scale=0.8, size=mask.shape)).to(dtype) for _ in range(2))
    # No two are equal: a tie at the threshold of KL-Cov is broken another way there.
    theta, ref = (-(prox + x).abs() - 1e-3 for x in noise)
    entropy, weight = (torch.from_numpy(rng.random(mask.shape)).to(dtype) for _ in range(2))
    advantages = torch.from_numpy(rng.normal(size=12)).to(dtype)
    advantages[5] = 0
    packed = mask[np.arange(width) < lengths[:, None]]
    rows = rm.Rows(list(range(12)), lengths, mask=packed)
    return Batch(theta, prox, ref, entropy, weight, advantages, torch.from_numpy(mask).to(dtype), rows)


def gradients(call, *leaves):
    """The loss, and its derivatives by the leaves."""
    leaves = [x.clone().requires_grad_() for x in leaves]
    loss, rest = call(*leaves)
    loss.backward()
    zeros = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
    return loss.detach(), *zeros, rest


def ours(batch, entry, *, aggregation=None, normalizer=None, weight=None, coef=None):
    """``gradients`` of policy_loss; of the entropies too."""

    def call(theta, entropy):
        logprobs = rm.LogProbs(theta, prox=batch.prox, ref=batch.ref)
        objective = entry.made()
        if objective.coupling == "batch":
            detached = rm.LogProbs(theta.detach(), prox=batch.prox)
            objective = objective.with_parts([objective.prepare(detached, batch.advantages, batch.rows)])
        out = policy_loss(
            logprobs,
            batch.advantages,
            batch.rows,
            objective,
            normalizer=normalizer or Normalizer.local(batch.rows),
            aggregation=entry.aggregation or aggregation or "token_mean",
            weight=weight,
            kl=rm.loss.KL(**entry.kl) if entry.kl else None,
            entropy=None if coef is None else EntropyBonus(entropy, coef=coef),
        )
        return out.loss, out.metrics

    return gradients(call, batch.theta, batch.entropy)


def near(entry, dtype):
    return max(ATOL[dtype], entry.atol or 0.0)


#: verl's ``loss_agg_mode`` and ours, for one call and with the counts of the batch: there its number of sequences is
#: that of all rows.
MODES = {
    "token-mean": ("token_mean", "token_mean"),
    "token-sum": ("token_sum", "token_sum"),
    "seq-mean-token-sum": ("seq_mean_token_sum", Aggregation(unit="row", within="sum", empty="include")),
    "seq-mean-token-mean": ("seq_mean_token_mean", TRL_ROWS),
    "seq-mean-token-sum-norm": (
        Aggregation(unit="row", within="sum", divisor=LONGEST),
        Aggregation(unit="row", within="sum", divisor=LONGEST, empty="include"),
    ),
}


def run_verl(peer):
    """``run(name, batch, mode=...)``: verl's function on a batch, as :func:`gradients`."""
    algos, actor = peer("verl.trainer.ppo.core_algos"), peer("verl.workers.config")

    def run(name, batch, *, mode="token-mean", weight=None, batch_info=(), policy=None, correction=None):
        entry = VERL[name]
        correction = {"loss_type": "ppo_clip"} | (correction or {})
        config = actor.ActorConfig(
            strategy="fsdp",
            rollout_n=1,
            use_dynamic_bsz=True,
            clip_ratio=0.2,
            clip_ratio_low=0.2,
            clip_ratio_high=0.28,
            clip_ratio_c=3.0,
            policy_loss=actor.PolicyLossConfig(
                loss_mode=name, rollout_correction=correction, **(policy or entry.policy)
            ),
        )
        config.global_batch_info.update(batch_info)

        def call(theta):
            advantages = batch.advantages[:, None].expand_as(theta).clone()
            function = algos.get_policy_loss_fn(name)
            return function(batch.prox, theta, advantages, batch.mask, mode, config, weight)

        return gradients(call, batch.theta)

    return run


def run_trl(peer):
    """``run(name, batch)``: ``GRPOTrainer._compute_loss`` on a trainer that was never constructed."""

    def run(name, batch, *, coef=None, steps=1, accumulation=None, items=None):
        if name == "gmpo":
            entry, kind = TRL_GMPO, peer("trl.experimental.gmpo.gmpo_trainer").GMPOTrainer
        else:
            entry, kind = TRL[name], peer("trl.trainer.grpo_trainer").GRPOTrainer
        trainer = object.__new__(kind)
        told = {"delta": None, "use_bias_correction_kl": False} | dict(entry.theirs)
        arguments = {
            "steps_per_generation": steps,
            "sapo_temperature_pos": 1.0,
            "sapo_temperature_neg": 1.05,
            "vespo_k_pos": 2.0,
            "vespo_lambda_pos": 3.0,
            "vespo_k_neg": 3.0,
            "vespo_lambda_neg": 2.0,
        }
        attributes = {
            "model": SimpleNamespace(training=True),
            "accelerator": SimpleNamespace(
                num_processes=1, gather=lambda x: x, reduce=lambda x, **_: x, sync_gradients=True
            ),
            "args": SimpleNamespace(**arguments | told),
            "loss_type": name.partition(",")[0],
            "importance_sampling_level": told.get("importance_sampling_level", "token"),
            "epsilon_low": 0.2,
            "epsilon_high": told.get("epsilon_high", 0.28),
            "beta": told.get("beta", 0.0),
            "max_completion_length": LONGEST,
            "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None,
            "use_vllm": False,
            "aux_loss_enabled": False,
            "current_gradient_accumulation_steps": accumulation or steps,
            "_entropy_bonus_enabled": coef is not None,
            "use_adaptive_entropy": False,
            "entropy_coef": coef,
            "_metrics": {"train": defaultdict(list)},
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
            "ref_per_token_logps": batch.ref,
            "num_items_in_batch": batch.mask.sum() if items is None else items,
        }

        def call(theta, entropy):
            trainer._get_per_token_logps_and_entropies = lambda *_, **__: (theta, entropy, None)
            return trainer._compute_loss(None, inputs), trainer._metrics["train"]

        return gradients(call, batch.theta, batch.entropy)

    return run
