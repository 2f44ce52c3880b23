"""torchrl: MCAdvantage, one trajectory of one reward after another until the group is full; its value functions."""

import torch
from _common import CONSTANT, Record, equal_sizes
from _tokens import TokenRecord
from tensordict import TensorDict
from torchrl.objectives.llm import MCAdvantage
from torchrl.objectives.value import functional

record = Record("torchrl", "TORCHRL")


def trajectory(group, reward):
    return TensorDict(
        group=torch.tensor([int(group)]),
        next=TensorDict(reward=reward.reshape(1, 1), done=torch.ones(1, 1, dtype=torch.bool), batch_size=[1]),
        batch_size=[1],
    )


def advantages(size, **options):
    def call(values, ids):
        transform = MCAdvantage(grpo_size=size, prompt_key="group", **options)
        done = [transform.inv(trajectory(g, r)) for g, r in zip(ids, values, strict=True)]
        return torch.cat([td["advantage"].flatten() for td in done if td is not None])

    return call


for values, ids, size in equal_sizes():
    for options in ({}, {"trajectory_return": "sum"}):
        record.add(f"torchrl.objectives.llm.MCAdvantage {options}", "grpo", advantages(size, **options), values, ids)
for options in ({}, {"trajectory_return": "sum"}):
    name = f"torchrl.objectives.llm.MCAdvantage {options}"
    record.add(f"{name}, group of one", "grpo", advantages(1, **options), *(x[:1] for x in CONSTANT))
    record.add(name, "grpo", advantages(3, **options), *CONSTANT, residue=True)
record.write()

END = [0.5, -0.25, 1.0, 0.75, 2.0, -1.0]
TRUNCATED = [True, False, True, False, False, True]


def rows(function, outputs, *, truncated=False, ratios=False, **options):
    """`function` on each row by itself, [T, 1]; a truncated row ends without being terminated."""

    def call(batch):
        out = {name: torch.zeros(batch["rewards"].shape) for name in outputs}
        for i, length in enumerate(batch["lengths"].tolist()):
            reward, value = (batch[k][i, :length, None] for k in ("rewards", "values"))
            ratio = batch["log_ratios"][i, :length, None] if ratios else None
            done = torch.zeros(length, 1, dtype=torch.bool)
            done[-1] = True
            terminated = done & (not (truncated and TRUNCATED[i]))
            given = {
                "state_value": value,
                "next_state_value": torch.cat([value[1:], torch.tensor([[END[i]]])]),
                "reward": reward,
                "done": done,
                "terminated": terminated,
                **({"log_pi": ratio, "log_mu": torch.zeros_like(ratio)} if ratios else {}),
                **options,
            }
            if "returns" in outputs and len(outputs) == 1:
                del given["state_value"]
            result = function(**given)
            for name, x in zip(outputs, result if len(outputs) > 1 else [result], strict=True):
                out[name][i, :length] = x[:, 0]
        return out

    return call


tokens = TokenRecord("torchrl", "TORCHRL")
here = "torchrl.objectives.value.functional"
both, returns = ("advantages", "returns"), ("returns",)
for truncated in (False, True):
    ends = {"bootstrap": END, "truncated": TRUNCATED} if truncated else {}
    for gamma, lam in ((1.0, 0.95), (0.97, 0.9), (0.9, 0.0), (0.99, 1.0)):
        theirs, ours = {"gamma": gamma, "lmbda": lam, "truncated": truncated}, {"gamma": gamma, "lam": lam} | ends
        for name in ("generalized_advantage_estimate", "vec_generalized_advantage_estimate"):
            if not (name.startswith("vec") and lam == 0.0):  # the filter of the fast path is empty there
                call = rows(getattr(functional, name), both, **theirs)
                tokens.add(f"{here}.{name}", "temporal.gae", call, "plain", **ours)
        for name in ("td_lambda_return_estimate", "vec_td_lambda_return_estimate"):
            if not (name.startswith("vec") and lam == 0.0):
                call = rows(getattr(functional, name), returns, **theirs)
                tokens.add(f"{here}.{name}", "temporal.td_lambda", call, "plain", **ours)
    for rho, c in ((1.0, 1.0), (0.9, 0.7), (2.0, 1.5)):
        thresholds = {"rho_thresh": rho, "c_thresh": c, "gamma": 0.97, "truncated": truncated, "ratios": True}
        call = rows(functional.vtrace_advantage_estimate, both, **thresholds)
        options = {"gamma": 0.97, "clip_rho": rho, "clip_c": c} | ends
        tokens.add(f"{here}.vtrace_advantage_estimate", "temporal.vtrace", call, "plain", **options)


def reward2go(batch):
    out = torch.zeros(batch["rewards"].shape)
    for i, length in enumerate(batch["lengths"].tolist()):
        done = torch.zeros(length, 1, dtype=torch.bool)
        done[-1] = True
        out[i, :length] = functional.reward2go(batch["rewards"][i, :length, None], done, 0.97)[:, 0]
    return {"returns": out}


both_ways = {"gamma": 0.9, "lmbda": 0.9}
for name, unlike in (
    ("generalized_advantage_estimate", None),
    ("vec_generalized_advantage_estimate", "leaves out every factor (gamma lam)^k below 1e-7"),
):
    call = rows(getattr(functional, name), both, **both_ways)
    tokens.add(f"{here}.{name}", "temporal.gae", call, "long", unlike=unlike, gamma=0.9, lam=0.9)
tokens.add(f"{here}.reward2go", "temporal.discounted_returns", reward2go, "plain", gamma=0.97)
tokens.write()
