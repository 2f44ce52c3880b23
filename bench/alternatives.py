"""The strongest cheap ways to do the same without rollmath: NumPy, a Python dict, numba, plain recursion."""

from collections import defaultdict
from itertools import chain, count
from typing import Any

import numpy as np

try:
    import numba
except ImportError:  # its providers skip
    numba = None


def njit(**options: Any) -> Any:
    return numba.njit(cache=True, **options) if numba else lambda f: f


# Groups


def grpo_bincount(rewards: np.ndarray, index: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """Two-pass GRPO over a dense group index."""
    n = np.bincount(index)
    centred = rewards - (np.bincount(index, rewards) / n)[index]
    std = np.sqrt(np.bincount(index, centred * centred) / (n - 1))
    return centred / (std + eps)[index]


def grpo_dict(rewards: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Ids numbered by a dict that hands out the next number."""
    number: defaultdict[Any, int] = defaultdict(count().__next__)
    return grpo_bincount(rewards, np.fromiter(map(number.__getitem__, ids.tolist()), np.int64, len(ids)))


def grpo_unique(rewards: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return grpo_bincount(rewards, np.unique(ids, return_inverse=True)[1])


def rloo_unique(rewards: np.ndarray, ids: np.ndarray) -> np.ndarray:
    index = np.unique(ids, return_inverse=True)[1]
    n, total = np.bincount(index), np.bincount(index, rewards)
    return rewards - (total[index] - rewards) / (n - 1)[index]


@njit()
def grpo_numba(rewards, index, n_groups, eps):
    n, mean, square = np.zeros(n_groups), np.zeros(n_groups), np.zeros(n_groups)
    for i in range(len(index)):
        n[index[i]] += 1
        mean[index[i]] += rewards[i]
    mean /= n
    for i in range(len(index)):
        d = rewards[i] - mean[index[i]]
        square[index[i]] += d * d
    scale = 1 / (np.sqrt(square / (n - 1)) + eps)
    out = np.empty(len(index))
    for i in range(len(index)):
        out[i] = (rewards[i] - mean[index[i]]) * scale[index[i]]
    return out


# Ragged rows


def lists_rows(lists: list[list[int]], offsets: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Packed: NumPy reads one list at a time."""
    for row, a, b in zip(lists, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        out[a:b] = row
    return out


def lists_fromiter(lists: list[list[int]], total: int) -> np.ndarray:
    return np.fromiter(chain.from_iterable(lists), np.int64, total)


def lists_padded(lists: list[list[int]], out: np.ndarray) -> np.ndarray:
    """Padded with 0: NumPy reads one list at a time."""
    for line, row in zip(out, lists, strict=True):
        line[: len(row)] = row
        line[len(row) :] = 0
    return out


def pack_rows(x: np.ndarray, lengths: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> np.ndarray:
    for i, n in enumerate(lengths.tolist()):
        out[offsets[i] : offsets[i + 1]] = x[i, :n]
    return out


def unpack_rows(values: np.ndarray, lengths: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> np.ndarray:
    for i, n in enumerate(lengths.tolist()):
        out[i, :n] = values[offsets[i] : offsets[i + 1]]
        out[i, n:] = 0
    return out


prange = numba.prange if numba else range


@njit(parallel=True)
def pack_numba(x, offsets, out):
    for i in prange(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        out[offsets[i] : offsets[i + 1]] = x[i, :n]
    return out


@njit(parallel=True)
def unpack_numba(values, offsets, out):
    for i in prange(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        out[i, :n] = values[offsets[i] : offsets[i + 1]]
        out[i, n:] = 0
    return out


# Tries: the number of tokens that remain when those of a group share prefixes


def trie_sorted(tokens: np.ndarray, groups: np.ndarray) -> int:
    """Rows sorted as bytes (big-endian, the group first), then the common prefix of neighbours."""
    keyed = np.concatenate([groups[:, None].astype(">i4"), tokens.astype(">i4")], axis=1)
    order = np.argsort(keyed.view(f"V{keyed.shape[1] * 4}").ravel())
    keyed = keyed[order]
    differ = keyed[1:] != keyed[:-1]
    common = np.where(differ.any(1), differ.argmax(1), keyed.shape[1])
    return int(tokens.size - np.maximum(common - 1, 0).sum())


def trie_dict(tokens: list[list[int]], groups: list[int]) -> int:
    """Nested dicts, a token each."""
    roots: dict[int, dict[int, Any]] = {}
    nodes = 0
    for row, group in zip(tokens, groups, strict=True):
        at = roots.setdefault(group, {})
        for token in row:
            below = at.get(token)
            if below is None:
                below = at[token] = {}
                nodes += 1
            at = below
    return nodes


# Order


@njit()
def isotonic_numba(x):
    """Pool adjacent violators with a stack of blocks."""
    total, count, top = np.empty(len(x)), np.empty(len(x), np.int64), 0
    for value in x:
        total[top], count[top] = value, 1
        while top > 0 and total[top - 1] * count[top] > total[top] * count[top - 1]:
            total[top - 1] += total[top]
            count[top - 1] += count[top]
            top -= 1
        top += 1
    out, k = np.empty(len(x)), 0
    for block in range(top):
        for _ in range(count[block]):
            out[k] = total[block] / count[block]
            k += 1
    return out
