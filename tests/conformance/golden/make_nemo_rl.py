"""NeMo-RL at one commit: its advantage estimators. Usage: make_nemo_rl.py CLONE."""

import sys
from types import SimpleNamespace
from typing import Optional

import numpy as np
import torch
from _common import CONSTANT, Record, ragged
from _source import Source
from _tokens import TokenRecord

COMMIT = "7ea279abfbeb698b092856d0dab61e7cf39bc909"
VERSION = {"version": "0.6.0", "commit": COMMIT}
source = Source(sys.argv[1], COMMIT)
names = ("calculate_baseline_and_std_per_prompt", "masked_mean", "masked_var", "get_gdpo_reward_component_keys")
utils = source.load("nemo_rl/algorithms/utils.py", *names, Optional=Optional)
nemo = source.load(
    "nemo_rl/algorithms/advantage_estimator.py",
    "GRPOAdvantageEstimator",
    "GDPOAdvantageEstimator",
    "ReinforcePlusPlusAdvantageEstimator",
    "GeneralizedAdvantageEstimator",
    **{name: getattr(utils, name) for name in names},
)
LOSS = SimpleNamespace(use_kl_in_reward=False, reference_policy_kl_penalty=0.0, reference_policy_kl_type="k3")

record = Record("nemo-rl", "NEMO_RL")


def grpo(*, leave_one_out, std):
    config = SimpleNamespace(use_leave_one_out_baseline=leave_one_out, normalize_rewards=std)

    def call(values, ids):
        estimator = nemo.GRPOAdvantageEstimator(config, LOSS)
        return estimator.compute_advantage(torch.tensor(ids)[:, None], values, torch.ones(len(ids), 1))[:, 0]

    return call


here = "nemo_rl.algorithms.advantage_estimator.GRPOAdvantageEstimator"
LONE = [1.0, 0.0, 0.0, 0.0, 0.5, 0.25], [0, 0, 0, 0, 1, 1]
for leave_one_out in (True, False):
    for std in (True, False):
        call, scale = grpo(leave_one_out=leave_one_out, std=std), "std" if std else "none"
        options = {"leave_one_out": leave_one_out, "scale": scale}
        name = f"{here} ({leave_one_out=}, {std=})"
        for seed in (1, 2):
            record.add(name, "grpo", call, *ragged(seed), **options)
        record.add(f"{name}, a lone success", "grpo", call, *LONE, **options)
    call, options = grpo(leave_one_out=leave_one_out, std=True), {"leave_one_out": leave_one_out}
    record.add(f"{here} ({leave_one_out=})", "grpo", call, *CONSTANT, residue=True, **options)
near = [1000.0, 1000.0 + 2**-7, 1000.0 - 2**-7, 1000.0], [0] * 4
record.add(
    f"{here} (leave_one_out=False)",
    "grpo",
    grpo(leave_one_out=False, std=True),
    *near,
    unlike="the float32 variance E[x^2] - E[x]^2 of rewards far from 0 is lost",
    leave_one_out=False,
)
record.write(**VERSION)

others = Record("nemo-rl", "NEMO_RL", "others")


def gdpo(*, leave_one_out, weights=None):
    config = SimpleNamespace(use_leave_one_out_baseline=leave_one_out, normalize_rewards=True, reward_weights=weights)

    def call(values, ids):
        estimator = nemo.GDPOAdvantageEstimator(config, LOSS)
        components = {f"reward/{i}": values[:, i] for i in range(values.shape[1])}
        prompts, mask = torch.tensor(ids)[:, None], torch.ones(len(ids), 1)
        return estimator.compute_advantage(prompts, None, mask, repeated_batch=components)[:, 0]

    return call


for leave_one_out in (True, False):
    for weights in (None, [1.0, 0.25]):
        values, ids = ragged(1)
        call = gdpo(leave_one_out=leave_one_out, weights=weights)
        options = {"leave_one_out": leave_one_out, "weights": weights}
        both = np.stack([values, ragged(2)[0]], 1)
        others.add(f"{here[:-22]}GDPOAdvantageEstimator", "gdpo", call, both, ids, **options)
others.write(**VERSION)

tokens = TokenRecord("nemo-rl", "NEMO_RL")


def gae(gamma, lam, *, normalize=True, value=None, policy=None, alpha=0.0):
    config = {
        "gae_lambda": lam,
        "gae_gamma": gamma,
        "normalize_advantages": normalize,
        "gae_lambda_value": value,
        "gae_lambda_policy": policy,
        "length_adaptive_alpha": alpha,
    }

    def call(batch):
        estimator = nemo.GeneralizedAdvantageEstimator(config, LOSS)
        advantages, returns = estimator.compute_advantage(None, batch["scores"], batch["mask"], batch["values"])
        return {"advantages": advantages, "returns": returns}

    return call


def loop(gamma, lam):
    def call(batch):
        estimator = SimpleNamespace(gae_gamma=gamma, gae_lambda=lam)
        given = estimator, batch["rewards"], batch["values"], batch["mask"]
        advantages, returns = nemo.GeneralizedAdvantageEstimator._compute_gae(*given)
        return {"advantages": advantages, "returns": returns}

    return call


def reinforce_pp(*, minus_baseline):
    def call(batch):
        estimator = nemo.ReinforcePlusPlusAdvantageEstimator(SimpleNamespace(minus_baseline=minus_baseline), LOSS)
        given = batch["groups"][:, None], batch["scores"], batch["mask"]
        return {"advantages": estimator.compute_advantage(*given)}

    return call


here = "nemo_rl.algorithms.advantage_estimator"
name = f"{here}.GeneralizedAdvantageEstimator"
for batch in ("plain", "gaps", "gap_rewards", "padding"):
    options = {"gamma": 0.97, "lam": 0.9, "whiten": None}
    tokens.add(f"{name}._compute_gae", "temporal.gae", loop(0.97, 0.9), batch, **options)
for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
    options = {"gamma": gamma, "lam": lam}
    tokens.add(name, "temporal.gae", gae(gamma, lam), "outcome", **options)
    call = gae(gamma, lam, normalize=False)
    tokens.add(f"{name} (normalize_advantages=False)", "temporal.gae", call, "outcome", whiten=None, **options)
call = gae(1.0, 0.95, value=1.0, policy=0.9)
options = {"gamma": 1.0, "lam": 0.9, "lam_returns": 1.0}
tokens.add(f"{name} (gae_lambda_value, gae_lambda_policy)", "temporal.gae", call, "outcome", **options)
call = gae(1.0, 0.95, alpha=0.3)
options = {"gamma": 1.0, "length_adaptive": 0.3, "lam_returns": 0.95}
tokens.add(f"{name} (length_adaptive_alpha)", "temporal.gae", call, "outcome", **options)
name = f"{here}.ReinforcePlusPlusAdvantageEstimator"
for minus_baseline, method in ((True, "group.reinforce_pp_baseline"), (False, "group.reinforce_pp")):
    call = reinforce_pp(minus_baseline=minus_baseline)
    tokens.add(f"{name} ({minus_baseline=})", method, call, "outcome", scores=True)
tokens.write(**VERSION)
