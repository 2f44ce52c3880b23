"""The published code of single papers, run on small batches: one function cut out of a checkout, beside torch alone.

    python tests/conformance/golden/make_papers.py RiskPO=CHECKOUT ADORA=CHECKOUT ARLArena=CHECKOUT ...

Each CHECKOUT is a git clone of the repository named in ``SOURCES``; the function is read at the commit given there,
wherever the clone is. What the rest of its file imports is not needed. Writes ``tests/vectors/papers.json``.
"""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Optional

import numpy as np
import torch

VECTORS = Path(__file__).parents[2] / "vectors"
SOURCES = {
    "RiskPO": (
        "RTkenny/RiskPO",
        "65ec40c935f5726aa2d80160d9056b1236d5551e",
        "verl/trainer/ppo/core_algos.py",
        "compute_grpo_bundle_rvar_outcome_advantage_quantile_tracking",
    ),
    "ADORA": (
        "ShadeCloak/ADORA",
        "c518485324b136e0fea6a7f280c1d224f94d13d5",
        "ADORA/verl/trainer/ppo/core_algos.py",
        "compute_grpo_outcome_advantage_ADORA",
    ),
    "ADORA_VL": (
        "ShadeCloak/ADORA",
        "c518485324b136e0fea6a7f280c1d224f94d13d5",
        "ADORA_VL/openrlhf/trainer/ppo_utils/experience_maker_vl.py",
        "weight_func",
    ),
    "ARLArena": (
        "WillDreamer/ARLArena",
        "dc1da9f717d1238c49d6f538e5b5bb4b134e76ef",
        "recipe/shop_agent/ppo/core_algos.py",
        "compute_EMPG_advantage",
    ),
    "A-PO": (
        "ZhaolinGao/A-PO",
        "c8823a32aeec5a4197b118c6c5222ba1b385c15e",
        "verl/utils/dataset/rl_dataset.py",
        "_process_values",
    ),
    "RLVR-Decomposed": (
        "TianHongZXY/RLVR-Decomposed",
        "a5d4e7c1df6016ebd7396bd6db83d885120adb6d",
        "verl/trainer/ppo/core_algos.py",
        "compute_psr_nsr_outcome_advantage",
    ),
}


def git(checkout, *arguments):
    return subprocess.run(["git", "-C", checkout, *arguments], check=True, capture_output=True, text=True).stdout


class Paper:
    """One function of one repository, and what it returned."""

    def __init__(self, key, checkout):
        self.repository, self.commit, self.path, self.function = SOURCES[key]
        text = git(checkout, "show", f"{self.commit}:{self.path}")
        node = next(n for n in ast.walk(ast.parse(text)) if getattr(n, "name", None) == self.function)
        node.decorator_list = []
        scope = {"torch": torch, "np": np, "re": re, "defaultdict": defaultdict, "Optional": Optional}
        exec(compile(ast.unparse(node), self.path, "exec"), scope)
        self.call = scope[self.function]
        self.records = []

    def add(self, inputs, result, **options):
        out = np.asarray(result, dtype=np.float64).tolist()
        self.records.append({"inputs": inputs, "options": options, "out": out})

    def to_dict(self):
        head = {key: getattr(self, key) for key in ("repository", "commit", "path", "function")}
        return head | {"torch": torch.__version__.partition("+")[0], "records": self.records}


def batch(seed, prompts=6, most=6, kind="binary"):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, most + 1, prompts)
    ids = np.repeat(np.arange(prompts), sizes)
    rewards = rng.integers(0, 2, len(ids)).astype(float) if kind == "binary" else rng.normal(size=len(ids)).round(3)
    order = rng.permutation(len(ids))
    return rewards[order], ids[order], rng.integers(1, 40, len(ids))


def column(values, dtype=torch.float64):
    return torch.tensor(np.asarray(values), dtype=dtype)[:, None]


class Config(dict):
    pass


def riskpo(paper):
    for seed in range(4):
        rewards, ids, _ = batch(seed, kind="binary" if seed % 2 else "real")
        bundles = ids // 3
        inputs = {"rewards": rewards.tolist(), "groups": ids.tolist(), "bundles": bundles.tolist()}
        for mode, tracked in (("batch", None), ("track", (0.5, 2.5)), ("mix", (0.5, 2.5))):
            for std in (False, True):
                for credit in ("uniform", "score"):
                    config = Config(
                        norm_adv_by_std_in_grpo=std,
                        quantile_down=0.2,
                        quantile_up=0.8,
                        credit_assign_mode=credit,
                        use_q_track_mode=mode,
                        use_mixing_risk_measure=True,
                        natural_baseline_adv=seed < 2,
                    )
                    down, up = tracked or (None, None)
                    out, _, _ = paper.call(
                        column(rewards),
                        torch.ones(len(ids), 1),
                        ids,
                        bundles,
                        q_track_down=down,
                        q_track_up=up,
                        config=config,
                    )
                    paper.add(
                        inputs,
                        out[:, 0],
                        levels=[0.2, 0.8],
                        quantiles=tracked,
                        blend=0.5 if mode == "mix" else 1.0,
                        natural_baseline=seed < 2,
                        scale="std" if std else "none",
                        credit=credit,
                    )


def adora(paper):
    for seed in range(6):
        rewards, ids, lengths = batch(seed, prompts=10)
        if seed == 0:
            rewards[:] = 0
        mask = (torch.arange(40) < torch.tensor(lengths)[:, None]).double()
        token_rewards = torch.zeros(len(ids), 40, dtype=torch.float64)
        token_rewards[:, 0] = torch.tensor(rewards)
        out, _ = paper.call(token_rewards, mask, torch.tensor(ids), correct_score=0.5, max_length_threshold=35)
        inputs = {"rewards": rewards.tolist(), "groups": ids.tolist(), "lengths": lengths.tolist()}
        # Every response has a first token.
        paper.add(inputs, out[:, 0], limit=35)


def adora_vision(paper):
    """Only the weights are a function of its own there; one row a group of equal size."""
    rng = np.random.default_rng(3)
    rewards, lengths = rng.integers(0, 2, (40, 4)).astype(float), rng.integers(4080, 4100, (40, 4)).astype(float)
    weights = paper.call(torch.tensor(rewards), torch.tensor(lengths))
    paper.add({"rewards": rewards.tolist(), "lengths": lengths.tolist()}, weights, limit=4094)


def empg(paper):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        trajectory = np.repeat(np.arange(4), rng.integers(1, 5, 4))
        step = np.concatenate([np.arange(n) for n in np.bincount(trajectory)])
        order = rng.permutation(len(step))
        trajectory, step = trajectory[order], step[order]
        entropies, advantages = rng.random(len(step)), rng.normal(size=4)[trajectory]
        prompts = [[{"content": f"you have already taken {t} step(s)" if t else "begin"}] for t in step]
        data = SimpleNamespace(
            batch=SimpleNamespace(batch_size=[len(step)]),
            non_tensor_batch={"raw_prompt": prompts, "traj_uid": trajectory},
        )
        tensors = {
            "old_entropy": column(entropies),
            "response_mask": torch.ones(len(step), 1, dtype=torch.float64),
            "advantages": column(advantages),
        }

        class Batch(dict):
            batch_size = (len(step),)

        data.batch = Batch(tensors)
        out, _ = paper.call(data, k=1.5, k_f=0.7, zeta=0.1)
        names = ("advantages", "entropies", "trajectory", "step")
        inputs = {n: v.tolist() for n, v in zip(names, (advantages, entropies, trajectory, step), strict=True)}
        paper.add(inputs, out[:, 0], k=1.5, k_future=0.7, zeta=0.1)


class Frame:
    """The part of a data frame that is asked for: some columns of one table."""

    def __init__(self, table):
        self.table = {f"eval_{i}": table[:, i] for i in range(table.shape[1])}
        self.columns = SimpleNamespace(tolist=lambda: list(self.table))

    def __len__(self):
        return len(self.table["eval_0"])

    def __getitem__(self, names):
        return SimpleNamespace(to_numpy=lambda: np.stack([self.table[n] for n in names], axis=1))

    def __setitem__(self, name, values):
        self.table[name] = values


def soft_value(paper):
    rewards = np.random.default_rng(5).integers(0, 2, (12, 8)).astype(float)
    for beta in (0.0, 0.01, 0.5, 3.0):
        owner = SimpleNamespace(dataframe=Frame(rewards), beta1=beta, num_gen_to_use=8)
        paper.call(owner)
        paper.add({"rewards": rewards.tolist()}, owner.dataframe.table["v_star"], beta1=beta)


def psr_nsr(paper):
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    for mode, method in (("positive", "psr"), ("negative", "nsr"), ("weighted", "w_reinforce")):
        out, _ = paper.call(column(rewards), column(rewards), torch.ones(4, 1), 1.0, mode, 0.1)
        paper.add({"rewards": rewards.tolist()}, out[:, 0], method=method)


if __name__ == "__main__":
    checkouts = dict(argument.split("=", 1) for argument in sys.argv[1:])
    checkouts["ADORA_VL"] = checkouts["ADORA"]
    runs = {
        "RiskPO": riskpo,
        "ADORA": adora,
        "ADORA_VL": adora_vision,
        "ARLArena": empg,
        "A-PO": soft_value,
        "RLVR-Decomposed": psr_nsr,
    }
    papers = {}
    for key, run in runs.items():
        papers[key] = paper = Paper(key, checkouts[key])
        run(paper)
    text = json.dumps({key: paper.to_dict() for key, paper in papers.items()}, indent=None)
    (VECTORS / "papers.json").write_text(text.replace('{"inputs"', '\n{"inputs"') + "\n")
