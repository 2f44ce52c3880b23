"""Where the losses of verl and TRL are other numbers on purpose: what docs/conformance.md says of them."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch
from loss_peers import LONGEST, TRL, VERL, Entry, make_batch, near, ours, run_trl, run_verl

from rollmath.loss import SAPO, Aggregation, ImportanceWeight, Normalizer, Reinforce, policy_loss

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

PARTS = [np.array([3, 5]), np.arange(6, 12), np.array([0, 1, 2, 4])]


@pytest.fixture(params=[1, 2, 3])
def batch(request):
    return make_batch(request.param, torch.float64)


@pytest.fixture
def verl(peer):
    return run_verl(peer)


@pytest.fixture
def trl(peer):
    return run_trl(peer)


def close(x, y, atol=1e-12):
    torch.testing.assert_close(torch.as_tensor(x), torch.as_tensor(y), rtol=0, atol=atol)


def test_verl_without_counts_is_a_loss_of_each_micro_batch(verl, batch):
    entry, total = VERL["vanilla"], torch.zeros_like(batch.theta)
    for picked in PARTS:
        part = batch.take(picked)
        _, total[picked], _ = verl("vanilla", part)
        close(total[picked], ours(part, entry)[1])
    whole = ours(batch, entry)[1]
    # No constant brings the sum of its micro-batches to the gradient of the batch.
    quotient = (total / whole)[whole != 0]
    assert quotient.max() > 1.5 * quotient.min()


@pytest.mark.parametrize("mode", ["seq-mean-token-sum", "seq-mean-token-mean"])
def test_verl_counts_rows_without_a_trained_token_if_it_is_told_counts(verl, batch, mode):
    counts = {"batch_num_tokens": int(batch.rows.trained.sum()), "global_batch_size": batch.rows.n_rows}
    told, not_told = verl("vanilla", batch, mode=mode, batch_info=counts)[0], verl("vanilla", batch, mode=mode)[0]
    assert not_told / told == pytest.approx(12 / 11)
    mine = [
        ours(batch, VERL["vanilla"], aggregation=Aggregation(unit="row", empty=empty))[0]
        for empty in ("exclude", "include")
    ]
    assert mine[0] / mine[1] == pytest.approx(12 / 11)


@pytest.mark.parametrize("name", ["vanilla", "sapo"])
def test_verl_adds_to_the_length_of_a_row(verl, batch, name):
    theirs = verl(name, batch, mode="seq-mean-token-mean")[1]
    mine = ours(batch, VERL[name], aggregation="seq_mean_token_mean")[1]
    one = (batch.rows.trained[:, None] + 1e-8) / batch.rows.trained[:, None].clip(1)
    assert (theirs - mine).abs().max() > 1e-11
    close(theirs * torch.from_numpy(one), mine)


def test_verl_adds_to_the_count_of_weights(peer, batch):
    helper = peer("verl.trainer.ppo.rollout_corr_helper")
    log_ratio = batch.prox - batch.ref
    weight, _ = helper.compute_rollout_correction_weights(log_ratio, batch.mask, "token", 2.0, True)
    off = (weight * batch.mask).sum() / batch.mask.sum() - 1
    assert 1e-12 < off < 1e-9
    logprobs = rm.LogProbs(batch.theta, batch.prox, batch.ref)
    correction = ImportanceWeight(2.0, normalize=True)
    correction = correction.with_parts([correction.prepare(logprobs, batch.rows)])
    mine = rm.loss.correction_weights(logprobs, batch.rows, correction)
    close((mine * batch.mask).sum() / batch.mask.sum(), torch.tensor(1.0, dtype=torch.float64), 1e-14)


def wider(batch, more):
    """The same rows with more padding."""
    columns = ("theta", "prox", "ref", "entropy", "weight", "mask")
    return replace(batch, **{name: torch.nn.functional.pad(getattr(batch, name), (0, more)) for name in columns})


def test_verl_divides_by_the_width_of_the_call(verl, batch):
    mode, width = "seq-mean-token-sum-norm", batch.theta.shape[1]
    narrow, wide = (verl("vanilla", x, mode=mode)[0] for x in (batch, wider(batch, 10)))
    assert narrow / wide == pytest.approx((width + 10) / width)
    aggregation = Aggregation(unit="row", within="sum", divisor=LONGEST)
    mine = [ours(x, VERL["vanilla"], aggregation=aggregation)[0] for x in (batch, wider(batch, 10))]
    close(mine[0], mine[1])


def test_verl_geo_mean_has_one_aggregation(verl, batch):
    counts = {"dp_size": 2, "batch_num_tokens": 1000, "global_batch_size": 100}
    theirs = [verl("geo_mean", batch, mode=mode)[0] for mode in ("token-mean", "token-sum", "seq-mean-token-sum")]
    theirs.append(verl("geo_mean", batch, batch_info=counts)[0])
    assert len({x.item() for x in theirs}) == 1
    entry = replace(VERL["geo_mean"], aggregation=None)
    assert abs(ours(batch, entry, aggregation="token_mean")[0] - theirs[0]) > 1e-3


def test_verl_geo_mean_takes_the_geometric_mean_of_the_weights(verl, batch):
    loss, gradient, _ = verl("geo_mean", batch, weight=batch.weight)
    n = torch.tensor(batch.rows.trained)[:, None].clamp(min=1)
    mean = ((batch.weight.log() * batch.mask).sum(1, keepdim=True) / n).exp().expand_as(batch.weight)
    mine, mine_gradient, _, _ = ours(batch, VERL["geo_mean"], weight=mean)
    close(mine, loss, 1e-7)
    close(mine_gradient, gradient, 1e-7)
    assert abs(ours(batch, VERL["geo_mean"], weight=batch.weight)[0] - loss) > 1e-3


def test_verl_clip_cov_draws_by_the_global_generator(verl, batch):
    drawn, mine = set(), set()
    for seed in range(8):
        torch.manual_seed(seed)
        policy = {"clip_cov_ratio": 0.02, "clip_cov_lb": 0.1}
        drawn.add(verl("clip_cov", batch, policy=policy)[0].item())
        entry = Entry("ClipCov", {"clip": (0.2, 0.28), "share": 0.02, "bounds": (0.1, 5.0)})
        mine.add(ours(batch, entry)[0].item())
    assert len(drawn) > 1
    assert len(mine) == 1


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_verl_takes_covariances_of_each_micro_batch(verl, batch, name):
    entry, counts = VERL[name], {"batch_num_tokens": int(batch.rows.trained.sum()), "dp_size": 1}
    policy = entry.policy
    if name == "clip_cov":  # so that there is something to draw in each batch
        policy = policy | {"clip_cov_lb": 0.0}
        entry = replace(entry, options=entry.options | {"bounds": (0.0, 5.0)})
    whole = verl(name, batch, policy=policy)[1]
    close(whole, ours(batch, entry)[1])
    split = torch.zeros_like(whole)
    logprobs = rm.LogProbs(batch.theta, prox=batch.prox)
    bare, parts = entry.made(), []
    for picked in PARTS:
        part = batch.take(picked)
        split[picked] = verl(name, part, batch_info=counts, policy=policy)[1]
        parts.append(bare.prepare(rm.LogProbs(part.theta, part.prox), part.advantages, part.rows))
    assert (split - whole).abs().max() > 1e-4
    assert bare.with_parts(parts) == bare.with_parts([bare.prepare(logprobs, batch.advantages, batch.rows)])


@pytest.mark.parametrize("name", ["dppo_tv", "dppo_kl"])
def test_verl_counts_tokens_without_an_advantage_as_clipped(verl, batch, name):
    batch.advantages[::2] = 0
    _, _, metrics = verl(name, batch)
    counts = ours(batch, VERL[name])[3].to_dict()
    assert counts["clip_high"] + counts["clip_low"] < metrics["actor/pg_clipfrac"] - 1e-3


def test_verl_bypass_mode_with_reinforce(verl, batch):
    """No difference: what docs/losses.md gives for it."""
    correction = {"loss_type": "reinforce", "rollout_is": "token", "rollout_is_threshold": 2.0}
    loss, gradient, _ = verl("bypass_mode", batch, correction=correction)
    theta = batch.theta.clone().requires_grad_()
    out = policy_loss(
        rm.LogProbs(theta, behaviour=batch.prox),
        batch.advantages,
        batch.rows,
        Reinforce(),
        normalizer=Normalizer.local(batch.rows),
        correction=ImportanceWeight(2.0, ratio="theta/behaviour"),
    )
    out.loss.backward()
    close(out.loss.detach(), loss)
    close(theta.grad, gradient)


@pytest.mark.parametrize("name", ["grpo", "sapo", "dr_grpo", "luspo", "bnpo"])
def test_trl_is_a_loss_of_each_micro_batch(trl, batch, name):
    """Divided by the accumulation steps; right for the first four if all have as many rows."""
    entry, parts = TRL[name], [np.arange(3), np.arange(3, 12)]
    total = torch.zeros_like(batch.theta)
    for picked in parts:
        part = batch.take(picked)
        total[picked] = trl(name, part, steps=2)[1]
        # Normalizer.local of each micro-batch, if that is meant.
        close(total[picked], ours(part, entry)[1] / 2, near(entry, torch.float64))
    assert (total - ours(batch, entry)[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["dapo", "cispo", "vespo"])
def test_trl_divides_by_the_mean_tokens_of_a_generation(trl, batch, name):
    """Two optimiser steps of one generation; each is divided by half of the tokens of both."""
    entry, tokens = TRL[name], batch.mask.sum()
    for picked in (np.arange(3), np.arange(3, 12)):
        part = batch.take(picked)
        theirs = trl(name, part, steps=2, accumulation=1, items=tokens)[1]
        close(theirs * (tokens / 2) / part.mask.sum(), ours(part, entry)[1], 1e-10)
        assert abs(part.mask.sum() / (tokens / 2) - 1) > 0.05


@pytest.mark.parametrize("name", ["grpo", "dr_grpo"])
def test_trl_has_the_entropy_bonus_as_a_mean_over_tokens(trl, batch, name):
    theirs = trl(name, batch, coef=0.05)[2]
    close(theirs, -0.05 * batch.mask / batch.mask.sum())
    mine = ours(batch, TRL[name], coef=0.05)[2]
    lengths = torch.tensor(batch.rows.trained)[:, None].clamp(min=1).double()
    weight = 1 / (12 * lengths) if name == "grpo" else torch.full_like(batch.mask, 1 / (12 * LONGEST))
    close(mine, -0.05 * weight * batch.mask)


def test_trl_rounds_the_temperatures_of_sapo(trl, batch):
    theirs, entry = trl("sapo", batch)[1], TRL["sapo"]
    rounded = float(np.float32(1.05))
    assert SAPO().tau_neg != rounded
    close(ours(batch, replace(entry, options={"tau_neg": rounded}))[1], theirs)
    assert (ours(batch, entry)[1] - theirs).abs().max() > 1e-11


def test_trl_gmpo_has_a_loss_of_rows_without_a_trained_token(trl, batch):
    batch.advantages[:] = 0
    batch.advantages[3] = 6.0
    loss, gradient, *_ = trl("gmpo", batch)
    assert loss.item() == -0.5
    assert not gradient.any()
