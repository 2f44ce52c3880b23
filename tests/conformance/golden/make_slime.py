"""slime at one commit: rewards of a group, GAE, REINFORCE++ and its whitening. Usage: make_slime.py CLONE."""

import sys
import tempfile
from types import ModuleType, SimpleNamespace

import torch
from _common import CONSTANT, Record, equal_sizes
from _source import Source
from _tokens import TokenRecord

COMMIT = "624b824a898ab0ec1fcb4d373004c7f3852bf515"
VERSION = {"version": "0.3.1", "commit": COMMIT}
source = Source(sys.argv[1], COMMIT)

# One rank of context parallelism.
core = ModuleType("megatron.core")
core.mpu = SimpleNamespace(get_context_parallel_world_size=lambda: 1)
sys.modules |= {"megatron": ModuleType("megatron"), "megatron.core": core}
torch.distributed.init_process_group("gloo", init_method=f"file://{tempfile.mktemp()}", rank=0, world_size=1)

ppo = source.load(
    "slime/utils/ppo_utils.py",
    *("get_advantages_and_returns_batch", "vanilla_gae", "chunked_gae", "chunked_discounted_returns"),
    *("get_reinforce_plus_plus_returns", "get_reinforce_plus_plus_baseline_advantages"),
)
utils = source.load("slime/utils/distributed_utils.py", "distributed_masked_whiten", dist=torch.distributed)
rollout = source.load("slime/ray/rollout.py", "RolloutManager._post_process_rewards")

record = Record("slime", "SLIME")


def run(estimator, size, *, full=True, std=True):
    def call(values, _):
        args = SimpleNamespace(
            advantage_estimator=estimator,
            rewards_normalization=True,
            grpo_std_normalization=std,
            n_samples_per_prompt=size,
            rollout_batch_size=len(values) // size if full else len(values),
        )
        samples = [SimpleNamespace(get_reward_value=lambda _, r=r: r.item()) for r in values]
        manager = SimpleNamespace(args=args, custom_reward_post_process_func=None)
        return rollout._post_process_rewards(manager, samples)[1]

    return call


here = "slime.ray.rollout.RolloutManager._post_process_rewards"
for values, ids, size in equal_sizes():
    record.add(f"{here} (grpo)", "grpo", run("grpo", size), values, ids)
    record.add(f"{here} (grpo, no std)", "grpo", run("grpo", size, std=False), values, ids, scale="none")
    if size == 8:
        record.add(
            f"{here} (grpo), a batch that is not full",
            "grpo",
            run("grpo", size, full=False),
            values,
            ids,
            unlike="the whole batch becomes one group",
        )
record.add(f"{here} (grpo), group of one", "grpo", run("grpo", 1), *(x[:1] for x in CONSTANT))
record.add(f"{here} (grpo)", "grpo", run("grpo", 3), *CONSTANT, residue=True)
record.write(**VERSION)

tokens = TokenRecord("slime", "SLIME")


def lists(batch, name):
    return [row[:n] for row, n in zip(batch[name], batch["lengths"].tolist(), strict=True)]


def padded(batch, rows):
    out = torch.zeros(batch["mask"].shape)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def gae(gamma, lam, *, chunked, whiten=False):
    def call(batch):
        lengths = batch["lengths"].tolist()
        given = lengths, lengths, lists(batch, "values"), lists(batch, "rewards"), gamma, lam
        advantages, returns = ppo.get_advantages_and_returns_batch(*given, chunked=chunked)
        if whiten:
            mask = torch.cat(lists(batch, "mask")).float()
            advantages = utils.distributed_masked_whiten(torch.cat(advantages), mask).split(lengths)
        return {"advantages": padded(batch, advantages), "returns": padded(batch, returns)}

    return call


def chunks(gamma, lam):
    """Chunks shorter than the rows."""

    def call(batch):
        advantages, returns = ppo.chunked_gae(batch["rewards"], batch["values"], gamma, lam, chunk_size=5)
        return {"advantages": advantages, "returns": returns}

    return call


def reinforce_pp(gamma, *, whiten=False):
    def call(batch):
        lengths = batch["lengths"].tolist()
        masks, kl = lists(batch, "mask"), [torch.zeros(n) for n in lengths]
        returns = ppo.get_reinforce_plus_plus_returns(batch["scores"], kl, masks, lengths, lengths, 0.0, gamma)
        if not whiten:
            return {"returns": padded(batch, returns)}
        white = utils.distributed_masked_whiten(torch.cat(returns), torch.cat(masks).float()).split(lengths)
        return {"advantages": padded(batch, white)}

    return call


here = "slime.utils.ppo_utils"
for batch in ("plain", "gaps", "gap_rewards"):
    for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
        options = {"gamma": gamma, "lam": lam}
        name = f"{here}.get_advantages_and_returns_batch"
        for chunked in (False, True):
            tokens.add(f"{name} ({chunked=})", "temporal.gae", gae(gamma, lam, chunked=chunked), batch, **options)
        tokens.add(f"{here}.chunked_gae", "temporal.gae", chunks(gamma, lam), batch, **options)
        white = gae(gamma, lam, chunked=True, whiten=True)
        tokens.add(f"{name}, distributed_masked_whiten", "temporal.gae", white, batch, whiten={}, **options)
for gamma in (1.0, 0.97):
    name = f"{here}.get_reinforce_plus_plus_returns"
    options = {"scores": True, "gamma": gamma}
    tokens.add(name, "temporal.discounted_returns", reinforce_pp(gamma), "outcome", **options)
    white = reinforce_pp(gamma, whiten=True)
    tokens.add(f"{name}, distributed_masked_whiten", "group.reinforce_pp", white, "outcome", **options)
tokens.write(**VERSION)
