"""Mismatch corrections beside verl's rollout corrections and TRL's importance sampling and off-policy mask."""

import importlib.util
import inspect
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch

from rollmath.loss import Gate, ImportanceWeight

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

ATOL = {torch.float32: 2e-6, torch.float64: 1e-12}


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2, 3) for dtype in ATOL], ids=str)
def batch(request):
    """Padded rows with gaps, one of them without a trained token; log-ratios of about a half."""
    seed, dtype = request.param
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 25, 12)
    width = int(lengths.max())
    inside = np.arange(width) < lengths[:, None]
    mask = inside & (rng.random((12, width)) < 0.8)
    mask[3] = False
    theta, prox, behaviour = (torch.from_numpy(-rng.gamma(1.0, 1.0, mask.shape)).to(dtype) for _ in range(3))
    behaviour = prox + 0.5 * (behaviour - behaviour.mean())
    rows = rm.Rows(list(range(12)), lengths, mask=mask[inside])
    return SimpleNamespace(
        logprobs=rm.LogProbs(theta, prox, behaviour),
        log_ratio=prox - behaviour,
        mask=torch.from_numpy(mask).to(dtype),
        rows=rows,
        advantages=torch.from_numpy(rng.normal(size=12)).to(dtype),
        dtype=dtype,
        name=str(dtype)[6:],
    )


# verl.


WEIGHTS = {
    ("token", 2.0): ImportanceWeight(2.0),
    ("token", "0.5_2.5"): ImportanceWeight((0.5, 2.5), outside="zero"),
    ("sequence", 2.0): ImportanceWeight(2.0, level="row"),
    ("sequence", "0.1_5.0"): ImportanceWeight((0.1, 5.0), level="row", outside="zero"),
}


@pytest.mark.parametrize("setting", WEIGHTS, ids=str)
def test_verl_weights(peer, batch, agree, setting):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    theirs, metrics = helper.compute_rollout_correction_weights(batch.log_ratio, batch.mask, *setting)
    correction = WEIGHTS[setting]
    ours = rm.loss.correction_weights(batch.logprobs, batch.rows, correction)
    name = f"verl compute_rollout_correction_weights {batch.name}"
    agree(name, ours, theirs * batch.mask, atol=ATOL[batch.dtype])
    assert 0 < metrics["rollout_is_ratio_fraction_high"] < 1
    report = rm.loss.mismatch_report(rm.loss.mismatch(batch.logprobs, batch.rows, correction=correction))
    agree(f"{name}, mean", report.weight, metrics["rollout_is_mean"], atol=1e-6)
    # verl divides by mean + 1e-8.
    ess = metrics["rollout_is_eff_sample_size"]
    agree(f"{name}, effective sample size", report.effective_sample_size, ess, atol=1e-6)


@pytest.mark.parametrize("setting", WEIGHTS, ids=str)
def test_verl_batch_normalize(peer, batch, agree, setting):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    theirs, _ = helper.compute_rollout_correction_weights(batch.log_ratio, batch.mask, *setting, True)
    correction = WEIGHTS[setting]
    correction = correction.with_parts([correction.prepare(batch.logprobs, batch.rows)])
    ours = rm.loss.correction_weights(batch.logprobs, batch.rows, correction)
    name = f"verl compute_rollout_correction_weights, batch normalize {batch.name}"
    # verl's mean is a sum over the count plus 1e-8.
    agree(name, ours, theirs * batch.mask, atol=2e-6)


# verl's k1 thresholds bound exp(-log r), so they are those of behaviour / prox.
GATES = {
    "token_k1": ("0.6_1.8", Gate("ratio", (0.6, 1.8), ratio="behaviour/prox")),
    "token_k2": ("0.1", Gate("k2", 0.1)),
    "token_k3": ("0.1", Gate("k3", 0.1)),
    "seq_sum_k1": ("0.3_3.0", Gate("ratio", (0.3, 3.0), level="row", reduce="sum", ratio="behaviour/prox")),
    "seq_sum_k2": ("1.2", Gate("k2", 1.2, level="row", reduce="sum")),
    "seq_sum_k3": ("1.2", Gate("k3", 1.2, level="row", reduce="sum")),
    "seq_mean_k1": ("0.95_1.2", Gate("ratio", (0.95, 1.2), level="row", ratio="behaviour/prox")),
    "seq_mean_k2": ("0.11", Gate("k2", 0.11, level="row")),
    "seq_mean_k3": ("0.11", Gate("k3", 0.11, level="row")),
    "seq_max_k2": ("0.5", Gate("k2", 0.5, level="row", reduce="every")),
    "seq_max_k3": ("0.5", Gate("k3", 0.5, level="row", reduce="every")),
}


@pytest.mark.parametrize("mode", GATES)
def test_verl_rejection(peer, batch, agree, mode):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    threshold, gate = GATES[mode]
    theirs, metrics = helper.compute_rollout_rejection_mask(batch.log_ratio, batch.mask, mode, threshold)
    ours = rm.loss.correction_weights(batch.logprobs, batch.rows, gate)
    agree(f"verl compute_rollout_rejection_mask {batch.name}", ours, theirs, atol=0)
    metric = rm.loss.mismatch(batch.logprobs, batch.rows, correction=gate)
    assert metric["mismatch_kept"].item() == pytest.approx(1 - metrics["rollout_rs_masked_fraction"], abs=1e-6)
    assert 0 < theirs.sum() < batch.mask.sum()


def test_verl_has_no_other_rejection(peer):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    assert set(GATES) == helper.SUPPORTED_ROLLOUT_RS_OPTIONS


def test_verl_several_rejections(peer, batch, agree):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    theirs, _ = helper.compute_rollout_rejection_mask(
        batch.log_ratio, batch.mask, "token_k1,seq_mean_k3", "0.6_1.8,0.15"
    )
    gates = (GATES["token_k1"][1], Gate("k3", 0.15, level="row"))
    ours = rm.loss.correction_weights(batch.logprobs, batch.rows, gates)
    agree(f"verl compute_rollout_rejection_mask {batch.name}", ours, theirs, atol=0)


def test_verl_diagnostics(peer, batch, agree):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    theirs = helper.compute_offpolicy_metrics(batch.logprobs.prox, batch.logprobs.behaviour, batch.mask)
    ours = rm.loss.mismatch_report(rm.loss.mismatch(batch.logprobs, batch.rows))
    for here, there in {"k1": "kl", "k3": "k3_kl", "chi_square": "chi2_token"}.items():
        agree(f"verl compute_offpolicy_metrics {batch.name}", getattr(ours, here), theirs[there], atol=2e-6)


# TRL.


@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_trl_off_policy_mask(peer, batch, agree, delta):
    trainer = peer("trl.trainer.grpo_trainer").GRPOTrainer
    lp = batch.logprobs
    unscored = lp.behaviour.clone()
    unscored[::3, ::4] = float("nan")
    theirs = trainer.get_off_policy_mask(batch.advantages[:, None], lp.theta, unscored, batch.mask, delta)
    gate = Gate("k1", delta, level="row", when="negative_advantage", ratio="theta/behaviour", missing="one")
    logprobs = rm.LogProbs(lp.theta, lp.prox, unscored)
    ours = rm.loss.correction_weights(logprobs, batch.rows, gate, advantages=batch.advantages)
    agree(f"TRL GRPOTrainer.get_off_policy_mask {batch.name}", ours, theirs * batch.mask, atol=0)
    assert 0 < theirs.sum() < len(theirs)


MODES = {
    "token_truncate": ImportanceWeight((0.5, 3.0), missing="one"),
    "token_mask": ImportanceWeight((0.5, 3.0), outside="zero", missing="one"),
    "sequence_truncate": ImportanceWeight((0.5, 3.0), level="row", missing="one"),
    "sequence_mask": ImportanceWeight((0.5, 3.0), level="row", outside="zero", missing="one"),
}


def trl_ratio(module, trainer, **names):
    """Runs the statements of TRL's own method that make the ratio: a whole rollout would need a model and vLLM."""
    source = inspect.getsource(module.GRPOTrainer._generate_and_score_completions).splitlines()
    start = next(i for i, line in enumerate(source) if "per_token_logps_diff = (old_per" in line)
    end = next(i for i, line in enumerate(source) if i > start and "Unknown vLLM importance sampling level" in line)
    block = textwrap.dedent("\n".join(source[start : end + 2]))  # from the log-ratio to the error of an unknown mode
    scope = {"torch": torch, "math": module.math, "self": trainer, **names}
    exec(compile(block, "grpo_trainer.py", "exec"), scope)
    return scope["vllm_importance_sampling_ratio"]


@pytest.mark.parametrize("mode", MODES)
def test_trl_importance_sampling(peer, batch, agree, mode):
    module = peer("trl.trainer.grpo_trainer")
    trainer = SimpleNamespace(
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=0.5,
        vllm_importance_sampling_clip_max=3.0,
    )
    unscored = batch.logprobs.behaviour.clone()
    unscored[::3, ::4] = float("nan")
    theirs = trl_ratio(
        module,
        trainer,
        mask=batch.mask,
        old_per_token_logps=batch.logprobs.prox,
        sampling_per_token_logps=unscored,
    )
    logprobs = rm.LogProbs(batch.logprobs.theta, batch.logprobs.prox, unscored)
    ours = rm.loss.correction_weights(logprobs, batch.rows, MODES[mode])
    agree(f"TRL vllm_importance_sampling_mode {batch.name}", ours, theirs * batch.mask, atol=ATOL[batch.dtype])
    assert 0 < (ours == 0).sum() < ours.numel()


def test_trl_defaults(peer):
    config = peer("trl.trainer.grpo_config").GRPOConfig
    fields = config.__dataclass_fields__
    assert fields["vllm_importance_sampling_mode"].default == "sequence_mask"
    assert fields["vllm_importance_sampling_clip_max"].default == 3.0
    assert fields["vllm_importance_sampling_clip_min"].default is None
