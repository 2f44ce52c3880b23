"""Accuracy on items which no training has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .model import CharTransformer
from .sample import sample_flat
from .tasks import Tasks


@dataclass(frozen=True)
class Accuracy:
    """Held-out accuracy; a standard error is over items, so that several samples of one item count as one."""

    greedy: float
    greedy_error: float
    sampled: float
    sampled_error: float
    items: int
    samples: int


def evaluate(
    model: CharTransformer, tasks: Tasks, *, seed: int, items: int | None = None, samples: int = 2
) -> Accuracy:
    """Score one greedy and ``samples`` sampled responses (temperature 1) to each held-out item."""
    chosen = tasks.held_out[:items]
    means = []
    for size, generator in ((1, None), (samples, torch.Generator().manual_seed(seed))):
        rollouts = sample_flat(model, chosen, size, generator)
        right = [tasks.reward(chosen[g], rollouts.response(r)) for r, g in enumerate(rollouts.group.tolist())]
        means.append(np.array(right).reshape(len(chosen), size).mean(1))
    errors = [float(mean.std(ddof=1)) / len(chosen) ** 0.5 for mean in means]
    return Accuracy(float(means[0].mean()), errors[0], float(means[1].mean()), errors[1], len(chosen), samples)
