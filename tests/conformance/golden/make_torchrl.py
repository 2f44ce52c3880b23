"""torchrl's MCAdvantage: one trajectory of one reward after another, until the group is full."""

import torch
from _common import CONSTANT, Record, equal_sizes
from tensordict import TensorDict
from torchrl.objectives.llm import MCAdvantage

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
