"""OpenRLHF's RemoteExperienceMaker.compute_advantages_and_returns, on a maker without models: groups, then tokens."""

from types import SimpleNamespace

import numpy as np
import torch
from _common import CONSTANT, Record, equal_sizes, stand_in
from _tokens import TokenRecord

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

tokens = TokenRecord("openrlhf", "OPENRLHF")


def on_tokens(estimator, gamma=1.0, lam=1.0, no_std=False):
    """Rewards put on the last trained token, in two batches that are whitened together."""

    def call(batch):
        rows = torch.arange(len(batch["mask"]))
        if estimator == "reinforce_baseline":  # groups are consecutive
            rows = torch.argsort(batch["groups"], stable=True)
        experiences = [
            Experience(
                rewards=batch["scores"][rows[part]],
                index=part.tolist(),
                action_mask=batch["mask"][rows[part]].bool(),
                values=batch["values"][rows[part]],
                kl=torch.zeros(len(part), batch["mask"].shape[1]),
                info={},
            )
            for part in (torch.arange(4), torch.arange(4, len(rows)))
        ]
        maker = object.__new__(RemoteExperienceMaker)
        maker.advantage_estimator = estimator
        maker.kl_ctl = SimpleNamespace(value=0.0)
        advantage = SimpleNamespace(estimator=estimator, gamma=gamma, lambd=lam, no_std_norm=no_std)
        rollout = SimpleNamespace(n_samples_per_prompt=2, max_new_tokens=0)
        args = SimpleNamespace(algo=SimpleNamespace(advantage=advantage), rollout=rollout, reward=PLAIN)
        maker.strategy = SimpleNamespace(args=args)
        done = maker.compute_advantages_and_returns(experiences)
        out = {}
        for name in ("advantages", "returns"):
            out[name] = torch.empty(batch["mask"].shape)
            out[name][rows] = torch.cat([getattr(e, name) for e in done])
        return out

    return call


def loop(gamma, lam):
    def call(batch):
        maker = object.__new__(RemoteExperienceMaker)
        advantages, returns = maker.get_advantages_and_returns(
            batch["values"], batch["rewards"], batch["mask"], gamma, lam
        )
        return {"advantages": advantages, "returns": returns}

    return call


def cumulative(gamma):
    def call(batch):
        return {"returns": RemoteExperienceMaker.get_cumulative_returns(None, batch["rewards"], batch["mask"], gamma)}

    return call


there = here.rpartition(".")[0]
for batch in ("plain", "gaps", "gap_rewards", "padding"):
    options = {"gamma": 0.97, "lam": 0.9, "whiten": None}
    tokens.add(f"{there}.get_advantages_and_returns", "temporal.gae", loop(0.97, 0.9), batch, **options)
    tokens.add(f"{there}.get_cumulative_returns", "temporal.discounted_returns", cumulative(0.97), batch, gamma=0.97)
for gamma, lam in ((1.0, 0.95), (0.97, 0.9)):
    tokens.add(f"{here} (gae)", "temporal.gae", on_tokens("gae", gamma, lam), "outcome", gamma=gamma, lam=lam)
    reinforce = on_tokens("reinforce", gamma)
    tokens.add(f"{here} (reinforce)", "group.reinforce_pp", reinforce, "outcome", scores=True, gamma=gamma)
tokens.add(
    f"{here} (gae, no_std_norm)",
    "temporal.gae",
    on_tokens("gae", 1.0, 0.95, no_std=True),
    "outcome",
    gamma=1.0,
    lam=0.95,
    whiten={"scale": False},
)
baseline = on_tokens("reinforce_baseline")
tokens.add(f"{here} (reinforce_baseline)", "group.reinforce_pp_baseline", baseline, "outcome", scores=True)
tokens.write(stubs)
