"""Sums and maxima over all tokens in two steps: a number a block, and those in a fixed order. No atomics."""

import triton
import triton.language as tl


@triton.jit
def lane_max(x):
    """Largest of the lanes, NaN if one is."""
    largest = tl.max(tl.where(x == x, x, -float("inf")), 0)
    return tl.where(tl.max((x != x).to(tl.int32), 0) > 0, float("nan"), largest)


@triton.jit
def add(total, lost, x):
    """``total + x``, and what all roundings have lost, exact where ``x`` is not the larger one."""
    after = total + x
    return after, lost + (x - (after - total))


@triton.jit
def lane_sum(total, lost):
    """Sum of the lanes of :func:`add`."""
    # Where a sum is infinite, what was lost is NaN.
    return tl.sum(total + tl.where(lost == lost, lost, 0.0), 0)


@triton.jit
def block_max(x, live):
    """Largest of the ``x`` that are live; -inf of none, NaN if one is."""
    return lane_max(tl.where(live, x, -float("inf")))


@triton.jit
def reduce_partials(
    partials,
    blocks,
    SUMS: tl.constexpr,
    MAXIMA: tl.constexpr,
    SUM_ROWS: tl.constexpr,
    MAX_ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Sums of the first ``SUMS`` rows of ``partials`` and maxima of the next ``MAXIMA``, two float64 vectors.

    ``partials`` is ``[SUMS + MAXIMA, blocks]`` float32. The vectors have ``SUM_ROWS`` and ``MAX_ROWS`` entries, powers
    of two that are not below SUMS and MAXIMA; the largest of no tokens is 0. The order of a sum depends on ``blocks``
    and ``CHUNK`` alone.
    """
    sum_row = tl.arange(0, SUM_ROWS)[:, None]
    max_row = tl.arange(0, MAX_ROWS)[:, None]
    total = tl.zeros([SUM_ROWS, CHUNK], tl.float64)
    largest = tl.full([MAX_ROWS, CHUNK], -float("inf"), tl.float32)
    broken = tl.zeros([MAX_ROWS, CHUNK], tl.int32)
    sum_from = partials + sum_row.to(tl.int64) * blocks
    max_from = partials + (max_row + SUMS).to(tl.int64) * blocks
    for start in range(0, blocks, CHUNK):
        at = start + tl.arange(0, CHUNK)[None, :]
        x = tl.load(sum_from + at, mask=(at < blocks) & (sum_row < SUMS), other=0.0)
        y = tl.load(max_from + at, mask=(at < blocks) & (max_row < MAXIMA), other=-float("inf"))
        total += x.to(tl.float64)
        largest = tl.where(y > largest, y, largest)
        broken |= (y != y).to(tl.int32)
    most = tl.max(largest, 1).to(tl.float64)
    most = tl.where(most == -float("inf"), 0.0, most)
    return tl.sum(total, 1), tl.where(tl.max(broken, 1) > 0, float("nan"), most)
