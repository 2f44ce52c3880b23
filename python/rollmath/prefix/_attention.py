"""Attention over a packed tree, from the interval of each token."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.nn.attention.flex_attention import BlockMask

MaskMod: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def mask_mod(end: torch.Tensor) -> MaskMod:
    """A function for FlexAttention; ``end`` is int32 ``[n_tokens]``."""

    def descends(_b: torch.Tensor, _h: torch.Tensor, q: torch.Tensor, kv: torch.Tensor) -> torch.Tensor:
        return (kv <= q) & (q < end[kv])

    return descends


def block_mask(end: NDArray[np.int32], size: int, mod: MaskMod, device: torch.device | str) -> BlockMask:
    """Blocks of queries and keys with some pair that attends (partial) or nothing but such pairs (full)."""
    from torch.nn.attention.flex_attention import BlockMask  # noqa: PLC0415 - slow to load

    partial, full = block_pairs(end, size)
    blocks = -(-len(end) // size)

    def tables(q: NDArray[np.int64], kv: NDArray[np.int64]) -> tuple[torch.Tensor, ...]:
        by_query = np.argsort(q, kind="stable")
        pairs = ((q[by_query], kv[by_query]), (kv, q))
        return tuple(x.to(device) for rows, columns in pairs for x in _ordered(rows, columns, blocks))

    kv_num, kv_index, q_num, q_index = tables(*partial)
    full_kv_num, full_kv_index, full_q_num, full_q_index = tables(*full)
    return BlockMask(
        seq_lengths=(len(end), len(end)),
        kv_num_blocks=kv_num,
        kv_indices=kv_index,
        full_kv_num_blocks=full_kv_num,
        full_kv_indices=full_kv_index,
        q_num_blocks=q_num,
        q_indices=q_index,
        full_q_num_blocks=full_q_num,
        full_q_indices=full_q_index,
        BLOCK_SIZE=(size, size),
        mask_mod=mod,
    )


def block_pairs(
    end: NDArray[np.int32], size: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(query block, key block) of the partial pairs and of the full ones, by key block, then by query block."""
    starts = np.arange(0, len(end), size)
    kv = np.arange(len(starts))
    # Keys of block k are seen by the query blocks k .. last, and all of them by those before the least end.
    last = (np.maximum.reduceat(end, starts).astype(np.int64) - 1) // size
    first_full = kv if size == 1 else kv + 1
    after_full = np.maximum(first_full, np.minimum.reduceat(end, starts) // size)
    full = _ranges(first_full, after_full)
    rest, keys = _ranges(after_full, last + 1)
    if size == 1:
        return (rest, keys), full
    diagonal = np.concatenate([kv, rest]), np.concatenate([kv, keys])
    order = np.argsort(diagonal[1], kind="stable")
    return (diagonal[0][order], diagonal[1][order]), full


def _ranges(first: NDArray[np.int64], after: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of each range, and the number of the range that each is of."""
    counts = after - first
    of = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(of)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    return numbers, of


def _ordered(rows: NDArray[np.int64], columns: NDArray[np.int64], blocks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Number of pairs of each row, and their columns from the left; ``rows`` ascend."""
    counts = np.bincount(rows, minlength=blocks)
    table = np.zeros((blocks, blocks), np.int32)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[rows, rank] = columns
    return torch.from_numpy(counts.astype(np.int32))[None, None], torch.from_numpy(table)[None, None]
