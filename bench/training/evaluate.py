"""Accuracy on items that no training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from bench.training.model import CharTransformer
from bench.training.sample import sample_flat
from bench.training.tasks import Item, Task


class Accuracy(NamedTuple):
    """Mean rewards of sampled responses (temperature 1), and of the likeliest ones if these were asked for; nats a
    token; tokens a response.
    """

    sampled: float
    greedy: float | None
    entropy: float
    length: float


def accuracy(
    model: CharTransformer, task: Task, items: Sequence[Item], *, seed: int, samples: int = 2, greedy: bool = True
) -> Accuracy:
    """``samples`` responses to each item, and the likeliest one."""
    drawn = sample_flat(model, task, items, samples, torch.Generator().manual_seed(seed))
    likeliest = float(sample_flat(model, task, items, 1, None).rewards.mean()) if greedy else None
    entropy = float(drawn.entropy.sum()) / drawn.sampled
    return Accuracy(float(drawn.rewards.mean()), likeliest, entropy, float(np.mean(drawn.lengths)))
