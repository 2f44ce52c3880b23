"""Run by each of two processes: trains all cases and writes what it saw to ``FOLDER/CASE-RANK.json``."""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import trl
import trl_tiny as tiny

import rollmath as rm
from rollmath.adapters.trl import GRPOTrainer, RLOOTrainer, tree_rollout

SEEN: list[dict] = []


def advantage(batch):
    """Notes what is gathered, the same on both ranks."""
    values = rm.group.grpo(batch.rewards, batch.groups, valid=batch.valid)
    SEEN.append(
        {
            "rewards": batch.rewards.tolist(),
            "groups": batch.groups.index.tolist(),
            "kinds": list(batch.column("kind")),
            "tokens": batch.rows.tokens.to_lists(),
            "advantages": values.tolist(),
        }
    )
    return values


def first_half(rewards, groups):
    """Drops all that the second rank has."""
    return np.arange(len(rewards)) < len(rewards) // 2


class Recorder(GRPOTrainer):
    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        SEEN.append(
            {
                "rollouts": inputs["rollmath_rollout"].tolist(),
                "given": inputs["advantages"].tolist(),
                "items": int(inputs["num_items_in_batch"]),
                "loss": float(loss.detach()),
                "trained": int((inputs["completion_mask"] * inputs.get("tool_mask", 1)).sum()),
            }
        )
        return loss


PPO = {"objective": rm.loss.PPO(), "aggregation": "token_mean"}
CASES = {
    "theirs": (trl.GRPOTrainer, {}, {}),
    "ours": (GRPOTrainer, {"recipe": "trl"}, {}),
    "theirs-rloo": (trl.RLOOTrainer, {}, {}),
    "ours-rloo": (RLOOTrainer, {"recipe": "trl"}, {}),
    # Groups of four, of which each rank has two.
    "advantage": (Recorder, {"advantage": advantage, "group_by": "uid", "columns": ["kind"]}, {}),
    "filter": (Recorder, {"filter": first_half} | PPO, {}),
    "whole": (Recorder, PPO, {"gradient_accumulation_steps": 1}),
    "parts": (Recorder, PPO, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}),
    # Each rank has one tree, and statistics of both.
    "trees": (
        Recorder,
        {"recipe": {"recipe": "spo_tree", "kl": False}},
        {"per_device_train_batch_size": 4, "rollout_func": tree_rollout((2, 2), segment_tokens=4)},
    ),
    # Each rank has one prompt, and half of the prompts have no value.
    "missing": (GRPOTrainer, {"recipe": "trl", "group_by": "partial"}, {"per_device_train_batch_size": 4, "seed": 3}),
}


def run(folder: Path, case: str) -> None:
    SEEN.clear()
    kind, given, options = CASES[case]
    options = {"per_device_train_batch_size": 2, "max_steps": 4, "beta": 0.0} | options
    data = tiny.dataset()
    data = data.add_column("partial", [None if i % 2 else str(i) for i in range(len(data))])
    trainer = tiny.make(kind, folder / "out", given=given, data=data, **options)
    error = ""
    try:
        trainer.train()
    except ValueError as raised:
        error = str(raised)
    result = {
        "history": trainer.state.log_history,
        "advantages": list(trainer._logs["advantages"]),
        "seen": SEEN,
        "error": error,
        "weights": float(sum(p.detach().double().abs().sum() for p in trainer.model.parameters())),
    }
    (folder / f"{case}-{os.environ['RANK']}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in CASES:
        run(Path(sys.argv[1]), name)
    torch.distributed.destroy_process_group()
