"""Group methods on a matrix of rewards, one row a group: the expected outputs, and rollouts in shuffled order."""

import uuid
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    rewards: np.ndarray  # [N], shuffled, as are all
    channels: np.ndarray  # [N, 3]
    lengths: np.ndarray
    ids: np.ndarray  # UUID strings, as trainers have them
    order: np.ndarray


@lru_cache(maxsize=1)
def batch(groups: int, of: int = 8, width: int = 4096) -> Batch:
    rng = np.random.default_rng(3)
    names = np.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(groups)], dtype=object)
    order = rng.permutation(groups * of)
    channels = rng.random((groups * of, 3))
    lengths = rng.integers(1, int(0.6 * width), groups * of)
    return Batch(
        channels[order, 0].copy(), channels[order], lengths[order], np.repeat(names, of)[order], order
    )  # fmt: skip


def _white(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    mean = (weights * x).sum() / weights.sum()
    return (x - mean) / np.sqrt((weights * (x - mean) ** 2).sum() / (weights.sum() - 1) + 1e-8)


def expected(name: str, data: Batch, of: int = 8) -> np.ndarray:
    """Advantages in the order of ``data``."""
    back = np.argsort(data.order)
    r, lengths = data.rewards[back].reshape(-1, of), data.lengths[back].reshape(-1, of)
    channels = data.channels[back].reshape(-1, of, 3)
    mean = r.mean(1, keepdims=True)
    std = r.std(1, ddof=1, keepdims=True)
    ones = np.ones_like(r)

    def standardised(x: np.ndarray) -> np.ndarray:
        return (x - x.mean(1, keepdims=True)) / (x.std(1, ddof=1, keepdims=True) + 1e-6)

    total = sum(standardised(channels[:, :, c]) for c in range(3))
    best = np.sort(r, axis=1)
    out = {
        "dr_grpo": lambda: r - mean,
        "rloo": lambda: (r - mean) * of / (of - 1),
        "opo": lambda: r - (lengths * r).sum(1, keepdims=True) / lengths.sum(1, keepdims=True),
        "gpg": lambda: r - mean,
        "maxrl": lambda: (r - mean) / (mean + 1e-6),
        "lite_ppo": lambda: (r - mean) / (r.std(ddof=1) + 1e-6),
        "passk": lambda: np.where(r == best[:, -1:], best[:, -1:] - best[:, -2:-1], 0.0),
        "quantile_baseline": lambda: (r - best[:, [int(np.ceil(0.4 * of)) - 1]]) / (std + 1e-6),
        "reinforce_pp_baseline": lambda: _white(r - mean, lengths * ones),
        "gdpo": lambda: _white(total, lengths * ones),
    }[name]()
    return out.ravel()[data.order]
