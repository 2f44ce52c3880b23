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
def lane_sum(x):
    """Sum of the lanes."""
    return tl.sum(x, 0)


@triton.jit
def lane_max(x):
    """Largest of the lanes, NaN if one is; float64."""
    largest = tl.where(
        tl.max((x != x).to(tl.int32), 0) > 0, float("nan"), tl.max(tl.where(x == x, x, -float("inf")), 0)
    )
    return largest.to(tl.float64)


# The same over several blocks, a lane at a time: sum_start, sum_step for each block, sum_end.


@triton.jit
def sum_start(BLOCK: tl.constexpr):
    """Nothing."""
    return tl.zeros([BLOCK], tl.float32)


@triton.jit
def sum_step(so_far, x, live):
    """And the ``x`` that are live."""
    return so_far + tl.where(live, x, 0.0)


@triton.jit
def sum_end(so_far):
    """Sum of the lanes."""
    return tl.sum(so_far, 0)


@triton.jit
def max_start(BLOCK: tl.constexpr):
    """Nothing."""
    return tl.full([BLOCK], -float("inf"), tl.float32)


@triton.jit
def max_step(so_far, x, live):
    """And the ``x`` that are live. NaN stays."""
    return tl.where(live & ((x > so_far) | (x != x)), x, so_far)


@triton.jit
def max_end(so_far):
    """Largest of the lanes, NaN if one is."""
    return lane_max(so_far).to(tl.float32)


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

    ``partials`` is ``[SUMS + MAXIMA, blocks]`` float32. The vectors have ``SUM_ROWS`` and ``MAX_ROWS`` entries, powers of
    two that are not below SUMS and MAXIMA; the largest of no tokens is 0. The order of a sum depends on ``blocks`` and
    ``CHUNK`` alone.
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


@triton.jit
def pick(x, i, ROWS: tl.constexpr):
    """``x[i]`` of a vector of ``ROWS``."""
    return tl.sum(tl.where(tl.arange(0, ROWS) == i, x, 0.0), 0)
