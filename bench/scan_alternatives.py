"""Scans over token rows without rollmath: numba loops, and a loop over columns of time-major tensors."""

from typing import Any

import numpy as np

from bench.alternatives import njit, prange


@njit(parallel=True)
def gae_numba(rewards, values, mask, gamma, lam, advantages, returns):
    for i in prange(rewards.shape[0]):
        carry = 0.0
        following = 0.0
        for t in range(rewards.shape[1] - 1, -1, -1):
            if mask[i, t]:
                value = values[i, t]
                carry = rewards[i, t] + gamma * following - value + gamma * lam * carry
                following = value
                advantages[i, t] = carry
                returns[i, t] = carry + value
            else:
                advantages[i, t] = 0.0
                returns[i, t] = 0.0
    return advantages, returns


@njit(parallel=True)
def gae_packed_numba(rewards, values, offsets, gamma, lam, advantages, returns):
    for i in prange(len(offsets) - 1):
        carry = 0.0
        following = 0.0
        for t in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            value = values[t]
            carry = rewards[t] + gamma * following - value + gamma * lam * carry
            following = value
            advantages[t] = carry
            returns[t] = carry + value
    return advantages, returns


@njit(parallel=True)
def returns_numba(rewards, mask, gamma, returns):
    for i in prange(rewards.shape[0]):
        carry = 0.0
        for t in range(rewards.shape[1] - 1, -1, -1):
            if mask[i, t]:
                carry = rewards[i, t] + gamma * carry
                returns[i, t] = carry
            else:
                returns[i, t] = 0.0
    return returns


@njit(parallel=True)
def whiten_numba(x, mask, count):
    """In place, two-pass, one partial sum a row."""
    sums = np.zeros(x.shape[0])
    for i in prange(x.shape[0]):
        for t in range(x.shape[1]):
            if mask[i, t]:
                sums[i] += x[i, t]
    mean = sums.sum() / count
    for i in prange(x.shape[0]):
        sums[i] = 0.0
        for t in range(x.shape[1]):
            if mask[i, t]:
                sums[i] += (x[i, t] - mean) ** 2
    scale = 1 / np.sqrt(sums.sum() / (count - 1) + 1e-8)
    for i in prange(x.shape[0]):
        for t in range(x.shape[1]):
            if mask[i, t]:
                x[i, t] = (x[i, t] - mean) * scale
    return x


def gae_columns(rewards: Any, values: Any, mask: Any, gamma: float, lam: float) -> tuple[Any, Any]:
    """A loop over the columns of time-major tensors ``[T, B]``, with masks as floats."""
    import torch

    advantages, returns = torch.empty_like(values), torch.empty_like(values)
    carry = following = torch.zeros_like(values[0])
    for t in range(len(values) - 1, -1, -1):
        m, value = mask[t], values[t]
        carry = torch.lerp(carry, rewards[t] + gamma * following - value + gamma * lam * carry, m)
        following = torch.lerp(following, value, m)
        torch.mul(carry, m, out=advantages[t])
        torch.mul(carry + value, m, out=returns[t])
    return advantages, returns


@njit(parallel=True)
def optimal_baseline_numba(outcomes, lengths, order, starts, logprobs, squares, out):
    """Groups as ``order[starts[g]:starts[g + 1]]``; one outcome a row. Groups have at least two rows."""
    for g in prange(len(starts) - 1):
        rows = order[starts[g] : starts[g + 1]]
        longest = 0
        second = 0
        for i in rows:
            if lengths[i] > longest:
                second = longest
                longest = lengths[i]
            elif lengths[i] > second:
                second = lengths[i]
        top = np.zeros(longest)
        bottom = np.zeros(longest)
        for i in rows:
            weight = 0.0
            for t in range(lengths[i]):
                weight += 1 - 2 * np.exp(logprobs[i, t]) + squares[i, t]
                top[t] += outcomes[i] * weight
                bottom[t] += weight
        for i in rows:
            for t in range(lengths[i]):
                baseline = 0.0 if t >= second else top[t] / (bottom[t] + 1e-8)
                out[i, t] = outcomes[i] - baseline
            out[i, lengths[i] :] = 0.0
    return out
