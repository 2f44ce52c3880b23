"""Sums and maxima over all tokens in two steps: a number a block, and those in a fixed order. No atomics."""

import triton
import triton.language as tl


@triton.jit
def block_sum(x, live):
    """Sum of the ``x`` that are live, of one block."""
    return tl.sum(tl.where(live, x, 0.0), 0)


@triton.jit
def block_max(x, live):
    """Largest of the ``x`` that are live, of one block; -inf of none, NaN if one is."""
    largest = tl.max(tl.where(live & (x == x), x, -float("inf")), 0)
    broken = tl.max((live & (x != x)).to(tl.int32), 0)
    return tl.where(broken > 0, float("nan"), largest)


@triton.jit
def reduce_partials(partials, blocks, SUMS: tl.constexpr, MAXIMA: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr):
    """Sums of the first ``SUMS`` rows of ``partials`` and maxima of the next ``MAXIMA``, float64.

    ``partials`` is ``[SUMS + MAXIMA, blocks]`` float32. Two vectors come back: the sums, of the first power of two that
    is not below SUMS (``ROWS``), and the maxima, of as many; the largest of no tokens is 0. The order of a sum depends
    on ``blocks`` and ``CHUNK`` alone.
    """
    row = tl.arange(0, ROWS)[:, None]
    total = tl.zeros([ROWS, CHUNK], tl.float64)
    largest = tl.full([ROWS, CHUNK], -float("inf"), tl.float32)
    broken = tl.zeros([ROWS, CHUNK], tl.int32)
    at = row.to(tl.int64) * blocks + tl.arange(0, CHUNK)[None, :]
    for start in range(0, blocks, CHUNK):
        inside = start + tl.arange(0, CHUNK)[None, :] < blocks
        total += tl.load(partials + at + start, mask=inside & (row < SUMS), other=0.0).to(tl.float64)
        if MAXIMA > 0:
            x = tl.load(partials + blocks * SUMS + at + start, mask=inside & (row < MAXIMA), other=-float("inf"))
            largest = tl.maximum(largest, x)
            broken |= (x != x).to(tl.int32)
    most = tl.max(largest, 1).to(tl.float64)
    most = tl.where(most == -float("inf"), 0.0, most)
    return tl.sum(total, 1), tl.where(tl.max(broken, 1) > 0, float("nan"), most)


@triton.jit
def pick(x, i, ROWS: tl.constexpr):
    """``x[i]`` of a vector of ``ROWS``."""
    return tl.sum(tl.where(tl.arange(0, ROWS) == i, x, 0.0), 0)
