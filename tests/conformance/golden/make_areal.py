"""AReaL: Normalization, which its trainers apply to rewards in consecutive groups of one size, and the actor's GAE."""

from types import SimpleNamespace

import torch
from _common import CONSTANT, Record, equal_sizes, ragged, stand_in
from _tokens import TokenRecord

stubs = stand_in(
    *(
        "PIL",
        "aiofiles",
        "aiohttp",
        "flask",
        "httpx",
        "hydra",
        "lark",
        "numba",
        "openai",
        "orjson",
        "psutil",
        "pydantic",
    ),
    *("ray", "requests", "tenacity", "torchdata", "transformers", "uvloop", "werkzeug"),
)

from areal.utils.data import Normalization  # noqa: E402

record = Record("areal", "AREAL")


def run(size, **options):
    plain = {"mean_level": "group", "mean_leave1out": False, "std_level": "group", "std_unbiased": True, "eps": 1e-5}
    normalization = Normalization(SimpleNamespace(group_size=size, **(plain | options)))
    return lambda values, _: normalization(values)


here = "areal.utils.data.Normalization"
for values, ids, size in equal_sizes():
    record.add(f"{here} (group mean, group std)", "grpo", run(size), values, ids)
    biased = run(size, std_unbiased=False)
    record.add(f"{here} (group mean, biased group std)", "grpo", biased, values, ids, ddof=0)
    centred = run(size, std_level=None)
    record.add(f"{here} (group mean, no std)", "grpo", centred, values, ids, scale="none")
    others = run(size, std_level=None, mean_leave1out=True)
    record.add(f"{here} (leave-one-out mean, no std)", "rloo", others, values, ids)
one = [x[:1] for x in CONSTANT]
record.add(f"{here} (group mean, group std), group of one", "grpo", run(1), *one)
record.add(f"{here} (leave-one-out mean), group of one", "rloo", run(1, std_level=None, mean_leave1out=True), *one)
record.add(f"{here} (group mean, group std)", "grpo", run(3), *CONSTANT, residue=True)
record.add(
    f"{here} (group mean, group std), five rows in groups of two",
    "grpo",
    run(2),
    [1.0, 0.0, 0.0, 1.0, 1.0],
    [0, 0, 1, 1, 2],
    unlike="rows beyond the last full group keep mean 0 and standard deviation 0",
)
record.write(stubs)

others = Record("areal", "AREAL", "others")
for values, ids, size in equal_sizes():
    name = f"{here} (group mean, batch std)"
    others.add(name, "lite_ppo", run(size, std_level="batch"), values, ids, batch_std="residuals")
for seed in (1, 2):
    values, ids = ragged(seed)
    whiten = {"eps": 1e-5, "eps_place": "add"}
    name = f"{here} (batch mean, batch std)"
    others.add(name, "ops.whiten", run(1, mean_level="batch", std_level="batch"), values, ids, how=whiten)
others.write(stubs)

more = stand_in("datasets", "pybase64", "swanlab", "tensorboardX", "torch_memory_saver", "trackio", "wandb")

from areal.trainer.ppo.actor import PPOActor  # noqa: E402
from areal.utils.data import KLEstimator  # noqa: E402


def actor(gamma, lam, *, norm=False, end=None):
    """A prompt of one token before each row. `end`: V after the rows, of which those as wide as the batch are cut."""

    def call(batch):
        rows, width = batch["mask"].shape
        full = width + 1 if end is not None else width + 2
        inside = torch.arange(full) < batch["lengths"][:, None] + 1
        values, mask = torch.zeros(rows, full), torch.zeros(rows, full)
        values[:, :width], mask[:, 1 : width + 1] = batch["values"], batch["mask"]
        if end is not None:
            values[:, width] = torch.tensor(end)
        one = object.__new__(PPOActor)
        one.config = SimpleNamespace(overlong_reward_penalty=False, use_decoupled_loss=False, recompute_logprob=False)
        one.reward_bias, one.reward_scaling, one.reward_clip, one.reward_norm = 0.0, 1.0, 20.0, None
        one.kl_ctl, one.kl_estimator, one.mask_no_eos_with_zero = 0.0, KLEstimator("k1"), False
        one.discount, one.gae_lambda = gamma, lam
        batchwise = {"mean_level": "batch", "mean_leave1out": False, "std_level": "batch", "std_unbiased": True}
        one.adv_norm = Normalization(SimpleNamespace(group_size=1, eps=1e-5, **batchwise)) if norm else None
        data = {
            "input_ids": torch.zeros(rows, full, dtype=torch.long),
            "attention_mask": inside,
            "loss_mask": mask,
            "logprobs": torch.zeros(rows, full),
            "rewards": batch["scores"].clone(),
            "values": values,
        }
        data = one._compute_advantages(data)
        return {name: data[name][:, :width] for name in ("advantages", "returns")}

    return call


tokens = TokenRecord("areal", "AREAL")
name = "areal.trainer.ppo.actor.PPOActor._compute_advantages"
for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
    tokens.add(name, "temporal.gae", actor(gamma, lam), "ends", gamma=gamma, lam=lam)
    add = {"eps": 1e-5, "eps_place": "add"}
    normed = actor(gamma, lam, norm=True)
    tokens.add(f"{name} (adv_norm)", "temporal.gae", normed, "ends", gamma=gamma, lam=lam, whiten=add)
end = [0.5, -0.25, 1.0, 0.75, 2.0, -1.0]
truncated = [True, False, False, False, True, False]
tokens.add(
    f"{name} (rows as long as the batch)",
    "temporal.gae",
    actor(0.97, 0.9, end=end),
    "ends",
    gamma=0.97,
    lam=0.9,
    bootstrap=end,
    truncated=truncated,
)
tokens.write(stubs, more)
