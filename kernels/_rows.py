"""Where a kernel finds a row: how rows lie in memory, and their offsets."""

import triton
import triton.language as tl

#: How the elements of a row lie. Aligned: one after another, and each row starts at a multiple of 16 bytes. Peeled: one
#: after another from anywhere, so that up to 15 bytes come before the first aligned load. Strided: anything else.
ALIGNED: tl.constexpr = tl.constexpr(0)
PEELED: tl.constexpr = tl.constexpr(1)
STRIDED: tl.constexpr = tl.constexpr(2)


@triton.jit
def row_offset(row, start, inner, outer_stride, inner_stride):
    """Elements from the base to row ``row`` of a slice, in 64 bits."""
    block = row // inner
    within = row - block * inner
    # The casts come first: in 32 bits the products wrap from 2^31 elements on.
    return block.to(tl.int64) * outer_stride + within.to(tl.int64) * inner_stride + start


@triton.jit
def next_aligned(at, R: tl.constexpr):
    """The next multiple of R, written so that the compiler sees that it is one."""
    return (at + (R - 1)) // R * R
