"""SkyRL's advantage functions: GRPO and RLOO; MaxRL; GAE and REINFORCE++ on tokens."""

import torch
from _common import CONSTANT, Record, binary, ragged, stand_in
from _tokens import TokenRecord

stubs = stand_in("pydantic", "ray", "jaxtyping", "loguru", "omegaconf", "yaml", "skyrl_gym")

from skyrl.backends.skyrl_train.utils import ppo_utils  # noqa: E402

record = Record("skyrl", "SKYRL")


def run(function, **options):
    def call(values, ids):
        return function(values[:, None].clone(), torch.ones(len(values), 1), ids, **options)[0][:, 0]

    return call


here = "skyrl.backends.skyrl_train.utils.ppo_utils"
for seed in (1, 2):
    values, ids = ragged(seed)
    grpo, rloo = ppo_utils.compute_grpo_outcome_advantage, ppo_utils.compute_rloo_outcome_advantage
    record.add(f"{here}.compute_grpo_outcome_advantage", "grpo", run(grpo), values, ids)
    name = f"{here}.compute_grpo_outcome_advantage(grpo_norm_by_std=False)"
    record.add(name, "grpo", run(grpo, grpo_norm_by_std=False), values, ids, scale="none")
    record.add(f"{here}.compute_rloo_outcome_advantage", "rloo", run(rloo), values, ids)
record.add(f"{here}.compute_grpo_outcome_advantage", "grpo", run(grpo), *CONSTANT, residue=True)
record.write(stubs)

others = Record("skyrl", "SKYRL", "others")
for seed in (1, 2):
    others.add(f"{here}.compute_maxrl_advantage", "maxrl", run(ppo_utils.compute_maxrl_advantage), *binary(seed))
others.add(
    f"{here}.compute_maxrl_advantage",
    "maxrl",
    run(ppo_utils.compute_maxrl_advantage),
    [-1.0, -2.0, 1.0, 0.0],
    [0, 0, 1, 1],
    unlike="divides by a negative mean, which turns the order of the rewards around",
)
others.write(stubs)

tokens = TokenRecord("skyrl", "SKYRL")


def gae(gamma, lam):
    def call(batch):
        call = ppo_utils.compute_gae_advantage_return
        advantages, returns = call(batch["rewards"], batch["values"], batch["mask"].float(), gamma, lam)
        return {"advantages": advantages, "returns": returns}

    return call


def reinforce_pp(gamma):
    def call(batch):
        call = ppo_utils.compute_reinforce_plus_plus_outcome_advantage
        advantages, returns = call(batch["rewards"], batch["mask"].float(), gamma)
        return {"advantages": advantages, "returns": returns}

    return call


for batch in ("plain", "gaps", "gap_rewards"):
    for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
        name = f"{here}.compute_gae_advantage_return"
        tokens.add(name, "temporal.gae", gae(gamma, lam), batch, gamma=gamma, lam=lam)
    for gamma in (1.0, 0.97):
        name = f"{here}.compute_reinforce_plus_plus_outcome_advantage"
        tokens.add(name, "group.reinforce_pp", reinforce_pp(gamma), batch, gamma=gamma)
# Values after the end of a row count there, which rows as wide as the batch say.
width = [12] * 6
name = f"{here}.compute_gae_advantage_return"
tokens.add(name, "temporal.gae", gae(1.0, 0.95), "padding", gamma=1.0, lam=0.95, lengths=width)
tokens.write(stubs)
