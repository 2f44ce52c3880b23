"""ROLL at one commit: normalised rewards, GAE and discounted returns. Usage: make_roll.py CLONE."""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import torch
from _common import CONSTANT, Record, equal_sizes, ragged
from _source import Source
from _tokens import TokenRecord

COMMIT = "8eb27cc2dc34c4d1310b169d9b86d339004d811a"
VERSION = {"version": "0.3.0", "commit": COMMIT}
source = Source(sys.argv[1], COMMIT)
functionals = source.load(
    "roll/utils/functionals.py",
    *("masked_mean", "masked_var", "masked_whiten", "reward_norm", "compute_advantage"),
    *("compute_reinforce_return", "compute_gae_advantage_return"),
    logger=logging.getLogger("roll"),
)


class Batch:
    """One group as ROLL's DataProto: what `agentic_reward_norm` calls between its lines of arithmetic."""

    def __init__(self, scores):
        self.batch = {"scores": scores}
        # A dict has no batch size.
        self.batch = type("Tensors", (dict,), {"batch_size": [len(scores)], "device": "cpu"})(self.batch)

    @staticmethod
    def concat(batches):
        return batches[0]

    def reorder(self, indices):
        pass

    def pop(self, name):
        self.batch.pop(name)


agentic = source.load("roll/pipeline/agentic/utils.py", "agentic_reward_norm", DataProto=Batch)
record = Record("roll", "ROLL")


def by_group(mean, std):
    rule = SimpleNamespace(grouping="batch", norm_mean_type=mean, norm_std_type=std)

    def call(values, ids):
        out = torch.empty(len(ids))
        for group in np.unique(ids):
            out[ids == group] = agentic.agentic_reward_norm(Batch(values[ids == group]), rule)
        return out

    return call


here = "roll.pipeline.agentic.utils.agentic_reward_norm"
for seed in (1, 2):
    record.add(f"{here} (group mean, group std)", "grpo", by_group("group", "group"), *ragged(seed))
    record.add(f"{here} (group mean)", "grpo", by_group("group", None), *ragged(seed), scale="none")
record.add(f"{here} (group mean, group std)", "grpo", by_group("group", "group"), *CONSTANT, residue=True)
record.add(
    f"{here} (group mean, group std)",
    "grpo",
    by_group("group", "group"),
    [0.0, 2**-21, 0.0, 0.0],
    [0] * 4,
    unlike="a standard deviation of 1e-6 or less counts as none",
)


def rlvr(size, mean, std):
    return lambda values, _: functionals.reward_norm(values, size, norm_mean_type=mean, norm_std_type=std)


for values, ids, size in equal_sizes():
    name = "roll.utils.functionals.reward_norm"
    record.add(f"{name} (group mean, group std)", "grpo", rlvr(size, "group", "group"), values, ids)
    record.add(f"{name} (group mean)", "grpo", rlvr(size, "group", None), values, ids, scale="none")
record.write(**VERSION)

others = Record("roll", "ROLL", "others")
for values, ids, size in equal_sizes():
    name = "roll.utils.functionals.reward_norm (group mean, batch std)"
    others.add(name, "lite_ppo", rlvr(size, "group", "batch"), values, ids, batch_std="rewards")
others.write(**VERSION)

tokens = TokenRecord("roll", "ROLL")


def advantages(estimator, gamma, lam, *, whiten=False):
    def call(batch):
        names = {"token_level_rewards": "rewards", "values": "values"}
        data = SimpleNamespace(batch={theirs: batch[ours].clone() for theirs, ours in names.items()}, meta_info={})
        given = {"whiten_advantages": whiten, "response_mask": batch["mask"]}
        done = functionals.compute_advantage(data, gamma, lam, estimator, **given).batch
        return {"advantages": done["advantages"], "returns": done["returns"]}

    return call


name = "roll.utils.functionals.compute_advantage"
width = [12] * 6
for batch in ("plain", "gaps", "padding"):
    # Values after the end of a row count there, which rows as wide as the batch say.
    wide = {"lengths": width} if batch == "padding" else {}
    for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
        options = {"gamma": gamma, "lam": lam} | wide
        tokens.add(f"{name} (gae)", "temporal.gae", advantages("gae", gamma, lam), batch, **options)
        white = advantages("gae", gamma, lam, whiten=True)
        tokens.add(f"{name} (gae, whiten_advantages)", "temporal.gae", white, batch, whiten={}, **options)
for batch in ("plain", "gaps", "gap_rewards"):
    call = advantages("reinforce", 0.97, 1.0)
    tokens.add(f"{name} (reinforce)", "temporal.discounted_returns", call, batch, gamma=0.97)
tokens.write(**VERSION)
