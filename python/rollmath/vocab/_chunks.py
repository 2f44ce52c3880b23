"""Rows of logits in chunks: views of some rows at a time, one scratch for all of them, bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch

# Bytes that the buffers of a chunk may take (at least one row is taken, however long): on a CPU near the size of the
# cache, but not much smaller, because threads wait for each other in every chunk; on other devices enough rows to keep
# it busy.
_CPU_BYTES, _DEVICE_BYTES = 16 << 20, 256 << 20

# Rows shorter than this cost more to pick than to compute.
_LONG_ROW = 2048


class Chunk(NamedTuple):
    """Rows ``start:stop`` (flat numbers) of some tensors, as views ``[n, V]``; ``live`` is False for rows to skip."""

    start: int
    stop: int
    parts: tuple[torch.Tensor, ...]
    live: bool

    @property
    def at(self) -> slice:
        """The flat row numbers."""
        return slice(self.start, self.stop)


def dtype_of(logits: torch.Tensor) -> torch.dtype:
    """The dtype of the arithmetic and of the results."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def rows_of(logits: torch.Tensor) -> int:
    """The product of the leading axes, also where the last one is empty."""
    return math.prod(logits.shape[:-1])  # torch.Size.numel() would fix the sizes that torch.compile leaves open


def chunk_size(logits: torch.Tensor) -> int:
    """Rows of a chunk."""
    budget = _CPU_BYTES if logits.device.type == "cpu" else _DEVICE_BYTES
    return max(1, budget // (2 * max(1, logits.shape[-1]) * dtype_of(logits).itemsize))


def scratch(logits: torch.Tensor) -> torch.Tensor:
    """Room for a chunk. All chunks share it: fresh pages for each would cost more than the arithmetic on them."""
    rows = min(chunk_size(logits), rows_of(logits))
    return torch.empty((rows, max(1, logits.shape[-1])), dtype=dtype_of(logits), device=logits.device)


def shaped(room: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The first elements of a scratch as a contiguous matrix of the shape of ``like``."""
    return room.view(-1)[: like.numel()].view(like.shape)


def chunks(*tensors: torch.Tensor, keep: torch.Tensor | None = None) -> Iterator[Chunk]:
    """The same rows of tensors of one shape, some at a time, also of tensors that no view makes a matrix.

    ``keep`` is bool ``[N]``: on a CPU, chunks are cut where it changes, and those of rows to skip are not ``live``.
    Elsewhere looking at it would wait for the device, so that all rows are live, and the caller masks the results.
    """
    size, done = chunk_size(tensors[0]), 0
    by_run = keep is not None and keep.device.type == "cpu" and tensors[0].shape[-1] >= _LONG_ROW
    for matrices in _matrices(tensors):
        rows = matrices[0].shape[0]
        for first, last, live in _runs(keep[done : done + rows]) if by_run and keep is not None else [(0, rows, True)]:
            for start in range(first, last, size):
                stop = min(start + size, last)
                yield Chunk(done + start, done + stop, tuple(x[start:stop] for x in matrices), live)
        done += rows


def _runs(keep: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Maximal runs of equal values: first, one past the last, the value."""
    if not keep.numel():
        return []
    cuts = [0, *((keep[1:] != keep[:-1]).nonzero()[:, 0] + 1).tolist(), keep.numel()]
    return [(a, b, bool(keep[a])) for a, b in pairwise(cuts)]


def _matrices(tensors: tuple[torch.Tensor, ...]) -> Iterator[tuple[torch.Tensor, ...]]:
    """``[n, V]`` each, never copied: a slice such as ``logits[:, :-1]`` is taken row by row."""
    if rows_of(tensors[0]) == 0:
        return
    try:
        yield tuple(x.view(rows_of(x), x.shape[-1]) for x in tensors)
    except RuntimeError:
        for parts in zip(*tensors, strict=True):
            yield from _matrices(parts)


def row_sum(x: torch.Tensor) -> torch.Tensor:
    """Sums of the rows. One row alone counts as two, or torch would share it among its threads: other bits."""
    return x.sum(1) if x.shape[0] != 1 else x.expand(2, -1).sum(1)[:1]


def row_norm(x: torch.Tensor) -> torch.Tensor:
    """Euclidean norms of the rows, as :func:`row_sum`."""
    norms: torch.Tensor = torch.linalg.vector_norm(x if x.shape[0] != 1 else x.expand(2, -1), dim=1)
    return norms[: x.shape[0]]


def part(per_row: float | torch.Tensor, start: int, stop: int) -> float | torch.Tensor:
    """Some rows of what is one number for all or one a row."""
    return per_row[start:stop] if isinstance(per_row, torch.Tensor) else per_row
