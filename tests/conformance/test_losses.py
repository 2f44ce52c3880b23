"""Losses, their gradients and clip fractions beside all policy losses of verl's registry and all loss types of TRL."""

import ast
import importlib.util
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

from rollmath.loss import Aggregation, EntropyBonus, Normalizer, Objective, TokenLoss, policy_loss

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

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

    @property
    def needs(self) -> set[str]:
        return {self.objective} | ({"KL"} if self.kl else set())

    def made(self) -> Objective:
        return getattr(rm.loss, self.objective)(**self.options)


CLIP = {"clip": (0.2, 0.28)}
VANILLA = Entry("PPO", CLIP | {"dual_clip": 3.0, "max_log_ratio": 20})

#: verl's name of each policy loss, with ``clip_ratio_low`` 0.2, ``clip_ratio_high`` 0.28, ``clip_ratio_c`` 3.
VERL = {
    "vanilla": VANILLA,
    # With its default, ppo_clip, and without rejection it is vanilla, with behaviour for prox.
    "bypass_mode": replace(VANILLA, weighs=False),
    "gspo": Entry("GSPO", CLIP | {"gradient": "token"}),
    # seq-mean-token-mean whatever it is told.
    "sapo": Entry("SAPO", {"max_log_ratio": 20}, aggregation="seq_mean_token_mean", atol=1e-8),
    "gpg": Entry("Reinforce"),
    "dro": Entry("Quadratic", {"beta": 0.5}, policy={"dro_beta": 0.5}),
    "cispo": Entry("CISPO", CLIP | {"max_log_ratio": 20}),
    "dppo_tv": Entry("DPPO", {"divergence": "tv", "bounds": (0.2, 0.28), "cap": 3.0}),
    "dppo_kl": Entry("DPPO", {"divergence": "kl", "bounds": (0.2, 0.28), "cap": 3.0}),
    # The mean of all rows of the call, also of those that have no trained token, whatever it is told.
    "geo_mean": Entry("GMPO", {"log_clip": (0.2, 0.28)}, aggregation=TRL_ROWS, weighs=False, adds_up=False, atol=1e-8),
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
    "grpo, sequence": Entry("GSPO", CLIP, TRL_ROWS, {"importance_sampling_level": "sequence"}),
    "dapo, sequence": Entry("GSPO", CLIP, "token_mean", {"importance_sampling_level": "sequence"}),
    "cispo": Entry("CISPO", {"cap": 2.0}, "token_mean", {"epsilon_high": 2.0}),
    # Its temperatures are float32 whatever the log-probabilities are.
    "sapo": Entry("SAPO", {"tau_pos": 1.0, "tau_neg": 1.05}, TRL_ROWS, atol=1e-7),
    "vespo": Entry("VESPO", {}, "token_mean"),
    "luspo": Entry("LUSPO", CLIP, TRL_ROWS, {"importance_sampling_level": "sequence"}),
}

#: Objectives that are still to come; their entries above wait for them.
LATER: set[str] = set()

HERE = {"verl": {k: e for k, e in VERL.items() if not e.needs & LATER}}
HERE["TRL"] = {k: e for k, e in TRL.items() if not e.needs & LATER}


def test_later_is_what_is_not_there():
    assert set(rm.loss.__all__) & LATER == set()
    assert set.union(*(e.needs for e in [*VERL.values(), *TRL.values()])) - set(rm.loss.__all__) == LATER


def test_verl_registers_what_is_handled_here(peer):
    """A new policy loss fails here until it has an entry."""
    assert sorted(peer("verl.trainer.ppo.core_algos").POLICY_LOSS_REGISTRY) == sorted(VERL)


def test_trl_has_the_loss_types_that_are_handled_here(peer):
    """The names that the source of its loss compares with; a new one fails here until it has an entry."""
    source = textwrap.dedent(inspect.getsource(peer("trl.trainer.grpo_trainer").GRPOTrainer._compute_loss))
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "self.loss_type":
            found |= {x.value for x in ast.walk(node) if isinstance(x, ast.Constant)}
    assert found == {name.partition(",")[0] for name in TRL}


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


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2, 3) for dtype in ATOL], ids=str)
def batch(request):
    """One of the rows has no trained token."""
    seed, dtype = request.param
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, 12)
    width = int(lengths.max())
    mask = (np.arange(width) < lengths[:, None]) & (rng.random((12, width)) < 0.8)
    mask[3] = False
    prox = torch.from_numpy(-rng.gamma(1.0, 1.0, mask.shape) - 1e-3).to(dtype)
    noise = (torch.from_numpy(rng.normal(scale=0.8, size=mask.shape)).to(dtype) for _ in range(2))
    theta, ref = ((prox + x).clamp(max=-1e-3) for x in noise)
    entropy, weight = (torch.from_numpy(rng.random(mask.shape)).to(dtype) for _ in range(2))
    advantages = torch.from_numpy(rng.normal(size=12)).to(dtype)
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


# verl


@pytest.fixture
def verl(peer):
    """``verl(name, batch, mode=...)``: its function on a batch, as ``gradients``."""
    algos, actor = peer("verl.trainer.ppo.core_algos"), peer("verl.workers.config")

    def run(name, batch, *, mode="token-mean", weight=None, scale_factor=None, batch_info=()):
        entry = VERL[name]
        config = actor.ActorConfig(
            strategy="fsdp",
            rollout_n=1,
            use_dynamic_bsz=True,
            clip_ratio=0.2,
            clip_ratio_low=0.2,
            clip_ratio_high=0.28,
            clip_ratio_c=3.0,
            loss_scale_factor=scale_factor,
            policy_loss=actor.PolicyLossConfig(
                loss_mode=name, rollout_correction={"loss_type": "ppo_clip"}, **entry.policy
            ),
        )
        config.global_batch_info.update(batch_info)

        def call(theta):
            advantages = batch.advantages[:, None].expand_as(theta).clone()
            function = algos.get_policy_loss_fn(name)
            return function(batch.prox, theta, advantages, batch.mask, mode, config, weight)

        return gradients(call, batch.theta)

    return run


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


@pytest.mark.parametrize(
    ("name", "weighted"), [(k, w) for k, e in HERE["verl"].items() for w in (False, True) if e.weighs or not w]
)
def test_verl(verl, batch, agree, name, weighted):
    weight, entry, dtype = batch.weight if weighted else None, VERL[name], batch.theta.dtype
    loss, gradient, metrics = verl(name, batch, weight=weight)
    mine, mine_gradient, _, named = ours(batch, entry, weight=weight)
    label = f"verl policy loss {name}{', weighted' * weighted} {str(dtype)[6:]}"
    agree(label, mine, loss, atol=near(entry, dtype))
    agree(f"{label}, gradient", mine_gradient, gradient, atol=near(entry, dtype))
    if entry.objective == "PPO":
        clipped = named["clip_high"] + named["clip_low"]
        agree(f"{label}, clip fraction", clipped, metrics["actor/pg_clipfrac"], atol=1e-6)
        agree(f"{label}, dual clip fraction", named["dual_clip"], metrics["actor/pg_clipfrac_lower"], atol=1e-6)
        agree(f"{label}, approximate KL", -named["log_ratio"], metrics["actor/ppo_kl"], atol=1e-6)
        assert min(metrics["actor/pg_clipfrac"], metrics["actor/pg_clipfrac_lower"]) > 0


@pytest.mark.parametrize("mode", MODES)
def test_verl_modes_of_aggregation(verl, batch, agree, mode):
    """Without counts of a batch, rows without a trained token are not counted."""
    info = {"loss_scale_factor": LONGEST} if mode.endswith("norm") else {}
    loss, gradient, _ = verl("vanilla", batch, mode=mode, batch_info=info)
    mine, mine_gradient, _, _ = ours(batch, VERL["vanilla"], aggregation=MODES[mode][0])
    # verl adds 1e-8 to the length of a row; token sums are larger.
    atol = {torch.float32: 2e-5, torch.float64: 1e-7 if "mean-token-mean" in mode else 1e-12}
    label = f"verl agg_loss {mode} {str(batch.theta.dtype)[6:]}"
    agree(label, mine, loss, atol=atol[batch.theta.dtype])
    agree(f"{label}, gradient", mine_gradient, gradient, atol=atol[batch.theta.dtype])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [name for name, entry in HERE["verl"].items() if entry.adds_up])
def test_verl_micro_batches(verl, batch, agree, name, mode):
    """Three micro-batches on two ranks, that are told the counts of the batch, add up to our loss of the batch."""
    entry, ranks = VERL[name], 2
    info = {
        "dp_size": ranks,
        "batch_num_tokens": int(batch.rows.trained.sum()),
        "global_batch_size": batch.rows.n_rows,
        "loss_scale_factor": LONGEST,
    }
    total, sum_of_losses = torch.zeros_like(batch.theta), 0.0
    for picked in (np.array([3, 5]), np.arange(6, 12), np.array([0, 1, 2, 4])):
        loss, gradient, _ = verl(name, batch.take(picked), mode=mode, batch_info=info)
        total[picked] += gradient / ranks  # what the mean over ranks does
        sum_of_losses += loss.item() / ranks
    aggregation = TRL_ROWS if entry.aggregation == "seq_mean_token_mean" else MODES[mode][1]
    whole = Entry(entry.objective, entry.options)
    mine, mine_gradient, _, _ = ours(batch, whole, aggregation=aggregation)
    atol = {torch.float32: 2e-5, torch.float64: 1e-7}[batch.theta.dtype]
    label = f"verl policy loss {name}, micro-batches {str(batch.theta.dtype)[6:]}"
    agree(label, mine, sum_of_losses, atol=atol)
    agree(f"{label}, gradient", mine_gradient, total, atol=atol)


def test_verl_agg_loss(peer, batch, agree):
    """Of any token losses, not only those of a policy."""

    class Given(Objective):
        def token_loss(self, tokens):
            return TokenLoss(tokens.theta, tokens.weighted(torch.ones_like(tokens.theta)))

    algos = peer("verl.trainer.ppo.core_algos")
    for mode, (aggregation, _) in MODES.items():
        theirs = algos.agg_loss(batch.theta, batch.mask, mode, loss_scale_factor=LONGEST)
        norm = Normalizer.local(batch.rows)
        logprobs = rm.LogProbs(batch.theta)
        out = policy_loss(logprobs, batch.advantages, batch.rows, Given(), normalizer=norm, aggregation=aggregation)
        name = f"verl agg_loss {mode}, of given losses {str(batch.theta.dtype)[6:]}"
        agree(
            name,
            out.loss / abs(theirs),
            theirs / abs(theirs),
            atol=1e-6 if batch.theta.dtype == torch.float32 else 1e-8,
        )


# TRL


@pytest.fixture
def trl(peer):
    """``trl(name, batch)``: ``GRPOTrainer._compute_loss`` on a trainer that was never constructed."""

    def run(name, batch, *, coef=None, steps=1, items=None):
        entry, trainer = TRL[name], object.__new__(peer("trl.trainer.grpo_trainer").GRPOTrainer)
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
            "current_gradient_accumulation_steps": steps,
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


@pytest.mark.parametrize("name", HERE["TRL"])
def test_trl(trl, batch, agree, name):
    entry, dtype = TRL[name], batch.theta.dtype
    loss, gradient, _, metrics = trl(name, batch)
    mine, mine_gradient, _, named = ours(batch, entry)
    label = f"TRL GRPOTrainer._compute_loss ({name}) {str(dtype)[6:]}"
    agree(label, mine, loss, atol=near(entry, dtype))
    agree(f"{label}, gradient", mine_gradient, gradient, atol=near(entry, dtype))
    if entry.objective == "PPO" and "delta" not in entry.options:
        for side in ("high", "low"):
            agree(f"{label}, clip fraction", named[f"clip_{side}"], metrics[f"clip_ratio/{side}_mean"][0], atol=1e-6)


def test_trl_entropy_bonus(trl, batch, agree):
    """A mean over tokens, which is ours where the aggregation is one."""
    label = f"TRL GRPOTrainer._compute_loss (dapo, entropy bonus) {str(batch.theta.dtype)[6:]}"
    loss, gradient, of_entropy, _ = trl("dapo", batch, coef=0.05)
    mine, mine_gradient, mine_of_entropy, _ = ours(batch, TRL["dapo"], coef=0.05)
    agree(label, mine, loss, atol=ATOL[batch.theta.dtype])
    agree(f"{label}, gradient", mine_gradient, gradient, atol=ATOL[batch.theta.dtype])
    agree(f"{label}, gradient of the entropies", mine_of_entropy, of_entropy, atol=ATOL[batch.theta.dtype])


@pytest.mark.parametrize("name", HERE["TRL"])
def test_trl_micro_batches(trl, batch, agree, name):
    """Accumulated over micro-batches of as many rows each; ``bnpo`` is by its own rule another loss then."""
    entry, steps = TRL[name], 3
    total = torch.zeros_like(batch.theta)
    for picked in np.arange(12).reshape(steps, -1):
        # What it calls the items is those of all steps of one generation.
        items = batch.mask.sum()
        total[picked] += trl(name, batch.take(picked), steps=steps, items=items)[1]
    mine = ours(batch, entry)[1]
    if entry.adds_up:
        label = f"TRL GRPOTrainer._compute_loss ({name}), micro-batches {str(batch.theta.dtype)[6:]}"
        agree(f"{label}, gradient", mine, total, atol=near(entry, batch.theta.dtype))
    else:
        assert (mine - total).abs().max() > 1e-2 * mine.abs().max()
