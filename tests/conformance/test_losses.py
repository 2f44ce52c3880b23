"""Losses, their gradients and clip fractions beside all policy losses of verl's registry and all loss types of TRL."""

import ast
import importlib.util
import inspect
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None or importlib.util.find_spec("trl") is None:
    pytest.skip("verl and trl are not installed; `make test-peers` has them", allow_module_level=True)

import torch
from loss_peers import (
    ATOL,
    LONGEST,
    MODES,
    TRL,
    TRL_GMPO,
    TRL_ROWS,
    VERL,
    Entry,
    make_batch,
    near,
    ours,
    run_trl,
    run_verl,
)

from rollmath.loss import Normalizer, Objective, TokenLoss, policy_loss

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(params=[(seed, dtype) for seed in (1, 2, 3) for dtype in ATOL], ids=str)
def batch(request):
    return make_batch(*request.param)


@pytest.fixture
def verl(peer):
    return run_verl(peer)


@pytest.fixture
def trl(peer):
    return run_trl(peer)


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


@pytest.mark.parametrize(
    ("name", "weighted"), [(k, w) for k, e in VERL.items() for w in (False, True) if e.weighs or not w]
)
def test_verl(verl, batch, agree, name, weighted):
    weight, entry, dtype = batch.weight if weighted else None, VERL[name], batch.theta.dtype
    loss, gradient, metrics = verl(name, batch, weight=weight)
    mine, mine_gradient, _, named = ours(batch, entry, weight=weight)
    label = f"verl policy loss {name}{', weighted' * weighted} {str(dtype)[6:]}"
    agree(label, mine, loss, atol=near(entry, dtype))
    agree(f"{label}, gradient", mine_gradient, gradient, atol=near(entry, dtype))
    clipped = named.to_dict().get("clip_high", 0.0) + named.to_dict().get("clip_low", 0.0)
    if name == "cispo":
        agree(f"{label}, clip fraction", clipped, metrics["actor/pg_clipfrac"], atol=1e-6)
    if name.startswith("dppo") and not weighted:
        lost = (batch.mask.bool() & (gradient == 0) & (batch.advantages != 0)[:, None]).sum() / batch.mask.sum()
        agree(f"{label}, clip fraction", clipped, lost, atol=1e-6)
        assert lost > 0
    if entry.objective == "PPO":
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
@pytest.mark.parametrize("name", [name for name, entry in VERL.items() if entry.adds_up])
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


@pytest.mark.parametrize("name", [*TRL, "gmpo"])
def test_trl(trl, batch, agree, name):
    entry, dtype = TRL_GMPO if name == "gmpo" else TRL[name], batch.theta.dtype
    loss, gradient, _, metrics = trl(name, batch)
    mine, mine_gradient, _, named = ours(batch, entry)
    if name == "gmpo":  # a row without a trained token has the ratio 1 there, and so the loss -A
        loss = loss + batch.advantages[batch.rows.trained == 0].sum() / batch.rows.n_rows
    label = f"TRL {'GMPO' if name == 'gmpo' else 'GRPO'}Trainer._compute_loss ({name}) {str(dtype)[6:]}"
    agree(label, mine, loss, atol=near(entry, dtype))
    agree(f"{label}, gradient", mine_gradient, gradient, atol=near(entry, dtype))
    if name == "gmpo" or (entry.objective == "PPO" and "delta" not in entry.options):
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


@pytest.mark.parametrize("name", TRL)
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


# What docs/losses.md says.


def documented(heading):
    """``(trainer, names, first piece of code)`` of the rows of a table."""
    text = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()
    table = text.partition(f"| trainer | its name | {heading} |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        trainer, names, code = (cell.strip() for cell in line.strip("|").split("|", 2))
        yield trainer, re.findall("`([^`]+)`", names), re.findall("`([^`]+)`", code)[0]


def made(code, **more):
    names = {name: getattr(rm.loss, name) for name in rm.loss.__all__}
    settings = {"clip_low": 0.2, "clip_high": 0.28, "clip_ratio_c": 3.0, "delta": None, "beta": 0.5}
    return eval(code, {**names, **settings, "horizon": LONGEST, "max_completion_length": LONGEST, **more})


def test_documented_objectives_are_those_that_run_here(peer):
    seen = set()
    defaults = peer("verl.workers.config").PolicyLossConfig()
    for trainer, names, code in documented("objective"):
        for name in names:
            seen.add((trainer, name))
            if trainer == "verl" and name != "bypass_mode":
                mine, entry = made(code), VERL[name].made()
                if name == "clip_cov":
                    assert mine.share == defaults.clip_cov_ratio
                    assert mine.bounds == (defaults.clip_cov_lb, defaults.clip_cov_ub)
                    mine = replace(mine, share=entry.share)
                if name == "kl_cov":
                    assert (mine.share, mine.coef) == (defaults.kl_cov_ratio, defaults.ppo_kl_coef)
                    mine = entry
                assert mine == entry, name
            elif trainer == "TRL":
                key = "grpo, sequence" if name.startswith("importance") else name
                entry = TRL_GMPO if name == "GMPOTrainer" else TRL[key]
                assert made(code, clip_high=entry.theirs.get("epsilon_high", 0.28)) == entry.made(), name
    assert {("verl", name) for name in VERL} <= seen
    assert {("TRL", name.partition(",")[0]) for name in TRL} | {("TRL", "GMPOTrainer")} <= seen


def test_documented_aggregations_are_those_that_run_here():
    seen = set()
    for trainer, names, code in documented("aggregation"):
        for name in names:
            seen.add((trainer, name))
            if trainer == "verl":
                assert made(code) == MODES[name][0], name
            elif trainer == "TRL":
                assert made(code) == (TRL_GMPO if name == "GMPOTrainer" else TRL[name]).aggregation, name
    assert seen == {("verl", name) for name in MODES} | {("TRL", name.partition(",")[0]) for name in TRL} | {
        ("TRL", "GMPOTrainer")
    }
