"""Trinity-RFT: GRPOGroupedAdvantage on experiences, and the verl-style GRPO and RLOO functions on a batch."""

from types import SimpleNamespace

import torch
from _common import CONSTANT, Record, ragged, stand_in

stubs = stand_in("ray", "omegaconf", "safetensors", "verl")

from trinity.algorithm.advantage_fn.grpo_advantage import GRPOAdvantageFn, GRPOGroupedAdvantage  # noqa: E402
from trinity.algorithm.advantage_fn.rloo_advantage import RLOOAdvantageFn  # noqa: E402
from trinity.common.experience import EID, Experience  # noqa: E402

record = Record("trinity-rft", "TRINITY")


def grouped(values, ids):
    rows = [
        Experience(eid=EID(task=int(g), run=i), tokens=torch.ones(3, dtype=torch.int), prompt_length=1, reward=r.item())
        for i, (g, r) in enumerate(zip(ids, values, strict=True))
    ]
    done, _ = GRPOGroupedAdvantage(**GRPOGroupedAdvantage.default_args())(rows)
    return [e.advantages[0].item() for e in sorted(done, key=lambda e: e.eid.run)]


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
    (f"{here}.grpo_advantage.GRPOGroupedAdvantage", "grpo", grouped),
    (f"{here}.grpo_advantage.GRPOAdvantageFn", "grpo", batched(GRPOAdvantageFn)),
    (f"{here}.rloo_advantage.RLOOAdvantageFn", "rloo", batched(RLOOAdvantageFn)),
):
    for seed in (1, 2):
        record.add(name, method, call, *ragged(seed))
    record.add(name, method, call, *CONSTANT, residue=True)
record.write(stubs)
