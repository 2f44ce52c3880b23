"""Train the checkpoint of `python -m rollmath demo` from random weights, and stop while it is still often wrong.

    python examples/train_demo_checkpoint.py --out checkpoint.npz

The model imitates worked chains of sums and never sees a held-out item. It is deliberately only partly trained, and in
the last stage one step in eight of what it imitates is wrong, as in any text written by people. So groups of rollouts
mix right and wrong answers, and reinforcement learning has something to do.

The checkpoint that ships is the output of `--threads 1` with seed 0; that took 13 minutes on one busy core. Another
machine gives a model of the same kind, not the same bits.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from pathlib import Path

import torch
from torch import nn

from rollmath.demo.evaluate import evaluate
from rollmath.demo.model import CharTransformer, ModelConfig, save
from rollmath.demo.tasks import (
    ALPHABET,
    BLANK,
    MAX_RESPONSE,
    PRETRAINING_SEED,
    PROMPT_WIDTH,
    Item,
    Tasks,
    encode,
    worked,
)

STAGES = ((1100, 2e-3, 0.0), (100, 1e-3, 0.12))  # steps, learning rate, share of the imitated steps which are wrong
SLIPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)  # what a wrong step is wrong by
WARMUP = 50


def batch(items: list[Item], share: float, dice: random.Random) -> torch.Tensor:
    """Prompt and working of each item, padded to one width; a ``share`` of the steps goes wrong."""

    def slip() -> int:
        return dice.choice(SLIPS) if dice.random() < share else 0

    rows = [list(item.prompt) + encode(worked(item.expression, slip)) for item in items]
    return torch.tensor([row + [BLANK] * (PROMPT_WIDTH + MAX_RESPONSE - len(row)) for row in rows])


def main() -> None:
    """Train, report and save."""
    parser = argparse.ArgumentParser(description="Train the checkpoint of the demo.")
    parser.add_argument("--batch", type=int, default=256, help="items a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("checkpoint.npz"))
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tasks, dice = Tasks(), random.Random(options.seed)
    stream = tasks.stream(PRETRAINING_SEED + options.seed)
    model = CharTransformer(ModelConfig(len(ALPHABET)))
    print(f"{model.size} parameters")
    begin = time.perf_counter()
    for number, (steps, rate, share) in enumerate(STAGES, 1):
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARMUP))
        for step in range(1, steps + 1):
            tokens = batch(list(itertools.islice(stream, options.batch)), share, dice)
            logits = model(tokens[:, :-1])[:, PROMPT_WIDTH - 1 :]
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), tokens[:, PROMPT_WIDTH:].flatten(), ignore_index=BLANK
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warmup.step()
            if step % options.every == 0 or step == steps:
                now = evaluate(model, tasks, seed=options.seed)
                took = time.perf_counter() - begin
                print(f"stage {number} step {step} {took:.0f}s loss {loss.item():.3f} {now}", flush=True)
    save(model, options.out)


if __name__ == "__main__":
    main()
