"""OpenRLHF's RemoteExperienceMaker.compute_advantages_and_returns, on a maker without models."""

from types import SimpleNamespace

import numpy as np
import torch
from _common import CONSTANT, Record, equal_sizes, stand_in

stubs = stand_in(
    *("aiohttp", "deepspeed", "flash_attn", "packaging", "peft", "pylatexenc", "ray", "torchdata", "tqdm"),
    *("transformers", "vllm"),
)

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402

record = Record("openrlhf", "OPENRLHF")


def run(estimator, size):
    def call(values, ids):
        # Batches of rows in random order, whose `index` says where in the order of prompts a row belongs.
        order = np.random.default_rng(size).permutation(len(ids))
        experiences = [
            Experience(
                rewards=values[part],
                index=part.tolist(),
                action_mask=torch.ones(len(part), 2, dtype=torch.bool),
                kl=torch.zeros(len(part), 2),
                info={},
            )
            for part in np.array_split(order, max(1, len(order) // 5))
        ]
        maker = object.__new__(RemoteExperienceMaker)
        maker.advantage_estimator = estimator
        maker.kl_ctl = SimpleNamespace(value=0.0)
        advantage = SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=True)
        maker.strategy = SimpleNamespace(
            args=SimpleNamespace(
                algo=SimpleNamespace(advantage=advantage),
                rollout=SimpleNamespace(n_samples_per_prompt=size, max_new_tokens=0),
                reward=PLAIN,
            )
        )
        out = torch.empty(len(ids))
        for experience in maker.compute_advantages_and_returns(experiences):
            out[experience.index] = experience.advantages[:, 0]
        return out

    return call


PLAIN = SimpleNamespace(clip_range=None, overlong_buffer_len=None, stop_properly_penalty_coef=None)
here = "openrlhf.trainer.ppo_utils.experience_maker.RemoteExperienceMaker.compute_advantages_and_returns"
for values, ids, size in equal_sizes():
    for estimator, method, options in (
        ("group_norm", "grpo", {}),
        ("dr_grpo", "grpo", {"scale": "none"}),
        ("rloo", "rloo", {}),
    ):
        record.add(f"{here} ({estimator})", method, run(estimator, size), values, ids, **options)
record.add(f"{here} (group_norm)", "grpo", run("group_norm", 3), *CONSTANT, residue=True)
for estimator, method in (("group_norm", "grpo"), ("rloo", "rloo")):
    name, one = f"{here} ({estimator}), group of one", [x[:1] for x in CONSTANT]
    record.add(name, method, run(estimator, 1), *one, refused="an assertion of openrlhf.cli.train_ppo_ray")
record.write(stubs)
