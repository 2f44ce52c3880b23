"""rLLM at one commit: its advantage estimators, in NumPy. Usage: make_rllm.py CLONE."""

import sys
from types import SimpleNamespace

import numpy as np
from _common import CONSTANT, Record, ragged
from _source import Source

COMMIT = "9beb6e0f676a46d38858991fd79ac5f8e0b16d4c"
VERSION = {"version": "0.3.0.pre", "commit": COMMIT}
source = Source(sys.argv[1], COMMIT)
folder = "rllm/trainer/algorithms"
names = ("calculate_grpo_advantages_per_group", "calculate_rloo_advantages_per_group")
per_group = source.load(f"{folder}/rl_algo.py", *names, np=np)
rllm = source.load(
    f"{folder}/advantage.py",
    *("calculate_grpo_advantages", "calculate_rloo_advantages"),
    *("calculate_reinforce_plus_plus_baseline_advantages", "calculate_prpo_advantages"),
    np=np,
    **{name: getattr(per_group, name) for name in names},
)


def run(function, *, std=True):
    """Rewards are Python floats there."""

    def call(values, ids):
        members = [np.flatnonzero(ids == group) for group in np.unique(ids)]
        rewards = [values.double().numpy()[rows] for rows in members]
        out = np.empty(len(ids))
        out[np.concatenate(members)] = np.concatenate(
            function(rewards, SimpleNamespace(norm_adv_by_std_in_grpo=std))[0]
        )
        return out

    return call


here = "rllm.trainer.algorithms.advantage"
record, others = Record("rllm", "RLLM"), Record("rllm", "RLLM", "others")
grpo, rloo = rllm.calculate_grpo_advantages, rllm.calculate_rloo_advantages
for seed in (1, 2):
    values, ids = ragged(seed)
    record.add(f"{here}.calculate_grpo_advantages", "grpo", run(grpo), values, ids)
    record.add(f"{here}.calculate_grpo_advantages (no std)", "grpo", run(grpo, std=False), values, ids, scale="none")
    record.add(f"{here}.calculate_rloo_advantages", "rloo", run(rloo), values, ids)
    residuals = run(rllm.calculate_reinforce_plus_plus_baseline_advantages)
    name = f"{here}.calculate_reinforce_plus_plus_baseline_advantages"
    others.add(name, "lite_ppo", residuals, values, ids, batch_std="residuals")
    whiten = {"ddof": 0, "eps": 1e-6, "eps_place": "add"}
    prpo = run(rllm.calculate_prpo_advantages)
    others.add(f"{here}.calculate_prpo_advantages", "ops.whiten", prpo, values, ids, how=whiten)
record.add(f"{here}.calculate_grpo_advantages", "grpo", run(grpo), *CONSTANT, residue=True)
record.write(**VERSION)
others.write(**VERSION)
