"""The checkpoint of a task: a model that imitates workings, some of them wrong, and stops while it often is, too."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.training import model as models
from bench.training.evaluate import accuracy
from bench.training.tasks import Task, get
from bench.training.tasks.base import BLANK, PRETRAINING_SEED


@dataclass(frozen=True)
class Stage:
    """So many steps of AdamW, on workings of which a share of the steps is wrong.

    A batch is run in ``parts``, each of workings that are about as long, which spares padding.
    """

    steps: int
    rate: float
    slip: float
    batch: int = 256
    parts: int = 1


# Found by trial on the tuning items: after these, groups of rollouts mix right and wrong answers.
STAGES = {
    "countdown": (Stage(1000, 2e-3, 0.0, 64), Stage(100, 1e-3, 0.1, 64)),
    "sums": (Stage(1200, 2e-3, 0.0), Stage(100, 1e-3, 0.12)),
    "logic": (Stage(400, 2e-3, 0.0, 128, 4), Stage(125, 1e-3, 0.25, 128, 4)),
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
                rows.append(row)
            if stage.parts > 1:
                rows.sort(key=len)
            optimizer.zero_grad()
            loss, written = 0.0, sum(len(row) - task.prompt_width for row in rows)
            size = -(-len(rows) // stage.parts)
            for part in (rows[at : at + size] for at in range(0, len(rows), size)):
                share = sum(len(row) - task.prompt_width for row in part) / written
                mean = share * _loss(model, task, part)
                mean.backward()
                loss += mean.item()
            optimizer.step()
            warmup.step()
            if step % every == 0 or step == stage.steps:
                now = accuracy(model, task, task.tuning[:200], seed=seed)
                took = time.perf_counter() - begin
                print(f"stage {number} step {step} {took:.0f} s loss {loss:.3f} {now}", flush=True)
    task.checkpoint.parent.mkdir(exist_ok=True)
    models.save(model, task.checkpoint)


def _loss(model: models.CharTransformer, task: Task, rows: Sequence[Sequence[int]]) -> Tensor:
    """Mean cross-entropy of the workings of some rows."""
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[BLANK] * (longest - len(row))] for row in rows])
    labels = tokens[:, task.prompt_width :]
    logits = models.run(model, tokens[:, :-1])[:, task.prompt_width - 1 :]
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=BLANK)
