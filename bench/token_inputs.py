"""Token rows for the suites of scans: padded float32 with a mask, and what a float64 loop over columns makes of it."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.inputs import padded_rows

GAMMA, LAM = 1.0, 0.95


class Tokens(NamedTuple):
    lengths: np.ndarray
    offsets: np.ndarray
    mask: np.ndarray  # bool
    rewards: np.ndarray  # the outcome at the last token
    outcomes: np.ndarray  # float64, one a row
    values: np.ndarray
    ids: np.ndarray  # groups of 16


@lru_cache(maxsize=1)
def tokens(rows: int, width: int, fill: float) -> Tokens:
    data = padded_rows(rows, width, fill)
    lengths = np.maximum(data.lengths, 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rng = np.random.default_rng(1)
    outcomes = rng.integers(0, 2, rows).astype(np.float64)
    rewards = np.zeros((rows, width), np.float32)
    rewards[np.arange(rows), lengths - 1] = outcomes
    mask = np.arange(width) < lengths[:, None]
    ids = np.repeat(np.arange(rows // 16), 16)[rng.permutation(rows)]
    return Tokens(lengths, offsets, mask, rewards, outcomes, data.padded, ids)


@lru_cache(maxsize=1)
def advantages(rows: int, width: int, fill: float) -> tuple[np.ndarray, np.ndarray]:
    """GAE and returns, float64, a column at a time; 0 behind the rows."""
    data = tokens(rows, width, fill)
    out, returns = np.zeros((rows, width)), np.zeros((rows, width))
    carry, following = np.zeros(rows), np.zeros(rows)
    for t in range(width - 1, -1, -1):
        keep = data.mask[:, t]
        value = data.values[:, t].astype(np.float64)
        carry = np.where(keep, data.rewards[:, t] + GAMMA * following - value + GAMMA * LAM * carry, carry)
        following = np.where(keep, value, following)
        out[:, t] = np.where(keep, carry, 0.0)
        returns[:, t] = np.where(keep, carry + value, 0.0)
    return out, returns


def whitened(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Over the masked tokens, sample variance + 1e-8 under the root, in float64."""
    seen = x[mask]
    return np.where(mask, (x - seen.mean()) / np.sqrt(seen.var(ddof=1) + 1e-8), 0.0)


@lru_cache(maxsize=1)
def energies(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities and sums of squared probabilities, float32."""
    rng = np.random.default_rng(2)
    logprobs = -rng.random((rows, width), dtype=np.float32) * 3
    return logprobs, rng.random((rows, width), dtype=np.float32)


def optimal_token_baseline(data: Tokens, logprobs: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """verl's formula in float64, a group at a time; groups have at least two rows."""
    out = np.zeros(data.mask.shape)
    for g in range(data.ids.max() + 1):
        rows = np.flatnonzero(data.ids == g)
        mask = data.mask[rows]
        weight = np.where(mask, 1 - 2 * np.exp(logprobs[rows].astype(float)) + squares[rows], 0.0).cumsum(1) * mask
        returns = data.outcomes[rows, None] * mask
        baseline = (returns * weight).sum(0) / (weight.sum(0) + 1e-8)
        found = (returns - baseline) * mask
        longest, second = np.sort(data.lengths[rows])[[-1, -2]]
        if longest > second:
            row = int(data.lengths[rows].argmax())
            found[row, second:] = returns[row, second:]
        out[rows] = found
    return out
