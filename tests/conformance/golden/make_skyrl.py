"""SkyRL's compute_grpo_outcome_advantage and compute_rloo_outcome_advantage."""

import torch
from _common import CONSTANT, Record, ragged, stand_in

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
