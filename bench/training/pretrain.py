"""The checkpoint of a task: a model that imitates workings, some of them wrong, and stops while it often is, too."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from bench.training import model as models
from bench.training.evaluate import accuracy
from bench.training.tasks import get
from bench.training.tasks.base import BLANK, PRETRAINING_SEED


@dataclass(frozen=True)
class Stage:
    """So many steps of AdamW, on workings of which a share of the steps is wrong."""

    steps: int
    rate: float
    slip: float
    batch: int = 256


# Found by trial on the tuning items: after these, groups of rollouts mix right and wrong answers.
STAGES = {
    "countdown": (Stage(1000, 2e-3, 0.0, 64), Stage(100, 1e-3, 0.1, 64)),
    "sums": (Stage(1200, 2e-3, 0.0), Stage(100, 1e-3, 0.12)),
}
WARMUP = 50


def pretrain(name: str, *, seed: int = 0, every: int = 100, stages: tuple[Stage, ...] | None = None) -> None:
    """Train from random weights and save."""
    torch.manual_seed(seed)
    task, dice = get(name), random.Random(seed)
    stream, model, begin = task.stream(PRETRAINING_SEED + seed), models.for_task(task), time.perf_counter()
    print(f"{name}: {model.size:,} parameters", flush=True)
    for number, stage in enumerate(stages or STAGES[name], 1):
        optimizer = torch.optim.AdamW(model.parameters(), lr=stage.rate, weight_decay=0.01)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
        for step in range(1, stage.steps + 1):
            rows = []
            for item in itertools.islice(stream, stage.batch):
                row = [*item.prompt, *task.encode(task.worked(item, dice, stage.slip))]
                if len(row) > task.context:
                    msg = f"{name}: a working of {len(row) - task.prompt_width} tokens, {task.max_response} are room"
                    raise ValueError(msg)
                rows.append(row + [BLANK] * (task.context - len(row)))
            tokens = torch.tensor(rows)
            tokens = tokens[:, : int((tokens != BLANK).any(0).nonzero().max()) + 1]
            labels = tokens[:, task.prompt_width :]
            logits = models.run(model, tokens[:, :-1])[:, task.prompt_width - 1 :]
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=BLANK)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warmup.step()
            if step % every == 0 or step == stage.steps:
                now = accuracy(model, task, task.tuning[:200], seed=seed)
                took = time.perf_counter() - begin
                print(f"stage {number} step {step} {took:.0f} s loss {loss.item():.3f} {now}", flush=True)
    task.checkpoint.parent.mkdir(exist_ok=True)
    models.save(model, task.checkpoint)
