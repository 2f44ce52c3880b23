"""Trinity-RFT: GRPOGroupedAdvantage on experiences, verl-style functions on a batch; OPMD, ReMax; PPO on tokens."""

from types import SimpleNamespace

import torch
from _common import CONSTANT, Record, ragged, stand_in
from _tokens import TokenRecord

stubs = stand_in("ray", "omegaconf", "safetensors", "verl")

from trinity.algorithm.advantage_fn.grpo_advantage import GRPOAdvantageFn, GRPOGroupedAdvantage  # noqa: E402
from trinity.algorithm.advantage_fn.opmd_advantage import OPMDGroupAdvantage  # noqa: E402
from trinity.algorithm.advantage_fn.ppo_advantage import PPOAdvantageFn  # noqa: E402
from trinity.algorithm.advantage_fn.reinforce_advantage import REINFORCEGroupAdvantage  # noqa: E402
from trinity.algorithm.advantage_fn.reinforce_plus_plus_advantage import REINFORCEPLUSPLUSAdvantageFn  # noqa: E402
from trinity.algorithm.advantage_fn.remax_advantage import REMAXAdvantageFn  # noqa: E402
from trinity.algorithm.advantage_fn.rloo_advantage import RLOOAdvantageFn  # noqa: E402
from trinity.common.experience import EID, Experience  # noqa: E402

record = Record("trinity-rft", "TRINITY")


def experiences(kind, **options):
    def call(values, ids):
        rows = [
            Experience(
                eid=EID(task=int(g), run=i), tokens=torch.ones(3, dtype=torch.int), prompt_length=1, reward=r.item()
            )
            for i, (g, r) in enumerate(zip(ids, values, strict=True))
        ]
        done, _ = kind(**kind.default_args() | options)(rows)
        return [e.advantages[0].item() for e in sorted(done, key=lambda e: e.eid.run)]

    return call


def batched(function):
    def call(values, ids):
        data = SimpleNamespace(
            batch={"token_level_rewards": values[:, None].clone(), "response_mask": torch.ones(len(values), 1)},
            non_tensor_batch={"uid": ids},
        )
        return function(**function.default_args())(data)[0].batch["advantages"][:, 0]

    return call


here = "trinity.algorithm.advantage_fn"
for name, method, call in (
    (f"{here}.grpo_advantage.GRPOGroupedAdvantage", "grpo", experiences(GRPOGroupedAdvantage)),
    (f"{here}.grpo_advantage.GRPOAdvantageFn", "grpo", batched(GRPOAdvantageFn)),
    (f"{here}.rloo_advantage.RLOOAdvantageFn", "rloo", batched(RLOOAdvantageFn)),
):
    for seed in (1, 2):
        record.add(name, method, call, *ragged(seed))
    record.add(name, method, call, *CONSTANT, residue=True)
record.write(stubs)

others = Record("trinity-rft", "TRINITY", "others")
for seed in (1, 2):
    name = f"{here}.opmd_advantage.OPMDGroupAdvantage"
    others.add(name, "opmd", experiences(OPMDGroupAdvantage), *ragged(seed), baseline="mean")
    for tau in (1.0, 0.25):
        soft = experiences(OPMDGroupAdvantage, opmd_baseline="logavgexp", tau=tau)
        others.add(f"{name}(logavgexp)", "opmd", soft, *ragged(seed), baseline="logmeanexp", tau=tau)
others.write(stubs)


def on_tokens(kind, **options):
    def call(batch):
        names = {"token_level_rewards": "rewards", "values": "values", "response_mask": "mask"}
        data = SimpleNamespace(batch={theirs: batch[ours].clone() for theirs, ours in names.items()})
        done = kind(**options)(data)[0].batch
        return {"advantages": done["advantages"], "returns": done["returns"]}

    return call


def remax(batch):
    data = {"token_level_rewards": batch["rewards"], "response_mask": batch["mask"]}
    data["reward_baselines"] = batch["values"][:, 0]
    return {"advantages": REMAXAdvantageFn()(SimpleNamespace(batch=data))[0].batch["advantages"]}


def reinforce(batch):
    rows = [
        Experience(
            eid=EID(task=0, run=i),
            tokens=torch.ones(1 + len(mask), dtype=torch.int),
            prompt_length=1,
            reward=score.item(),
            action_mask=mask.bool(),
        )
        for i, (mask, score) in enumerate(zip(batch["mask"], batch["scores"], strict=True))
    ]
    done, _ = REINFORCEGroupAdvantage()(rows)
    return {"returns": torch.stack([e.advantages for e in sorted(done, key=lambda e: e.eid.run)])}


tokens = TokenRecord("trinity-rft", "TRINITY")
width = [12] * 6
for batch in ("plain", "gaps", "gap_rewards", "padding"):
    # Values after the end of a row count there, which rows as wide as the batch say.
    options = {"gamma": 0.97, "lam": 0.9} | ({"lengths": width} if batch == "padding" else {})
    ppo = on_tokens(PPOAdvantageFn, gamma=0.97, lam=0.9)
    tokens.add(f"{here}.ppo_advantage.PPOAdvantageFn", "temporal.gae", ppo, batch, **options)
for batch in ("plain", "gaps", "gap_rewards"):
    name = f"{here}.reinforce_plus_plus_advantage.REINFORCEPLUSPLUSAdvantageFn"
    plus = on_tokens(REINFORCEPLUSPLUSAdvantageFn, gamma=0.97)
    tokens.add(name, "group.reinforce_pp", plus, batch, gamma=0.97)
tokens.add(f"{here}.remax_advantage.REMAXAdvantageFn", "group.remax", remax, "outcome", scores=True)
name = f"{here}.reinforce_advantage.REINFORCEGroupAdvantage"
tokens.add(name, "temporal.discounted_returns", reinforce, "outcome", scores=True, gamma=1.0)
tokens.write(stubs)
