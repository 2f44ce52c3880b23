"""Rows of tokens inside a kernel: where a row lies, and which of its positions are trained.

Padded rows are ``[rows, width]``, of which the first ``lengths[i]`` columns are used; packed rows lie one after
another, and row ``i`` is ``offsets[i] .. offsets[i + 1]``. Positions are counted from an address that is a multiple of
16 elements where all arrays of a launch share it, so that loads are wide though rows begin anywhere.
"""

import struct

import torch
import triton
import triton.language as tl

#: Launch options of every kernel here: results do not depend on whether the compiler contracts mul and add.
EXACT = {"enable_fp_fusion": False}
#: Types that a kernel can calculate in, with integers of their size.
ACCUMULATE = {torch.float64: (tl.float64, tl.int64), torch.float32: (tl.float32, tl.int32)}


@triton.jit
def bounds(OFFSETS, LENGTHS, VALID, row, width, SHARED: tl.constexpr):
    """``(base, head, used, slot, flawed)`` of a row.

    Its positions are ``head <= p < used`` after ``base``, its memory goes on to ``slot``; ``flawed`` is 1 for a length
    that the row cannot have, which is taken for the whole row, so that all of it can show it.
    """
    flawed = 0
    if OFFSETS is not None:
        first = tl.load(OFFSETS + row)
        size = tl.load(OFFSETS + row + 1) - first
        n = size
    else:
        first = row * width
        size = (row * 0 + width).to(tl.int64)
        n = size
        if LENGTHS is not None:
            asked = tl.load(LENGTHS + row).to(tl.int64)
            flawed = ((asked < 0) | (asked > size)).to(tl.int32)
            n = tl.where(flawed != 0, size, asked)
    if VALID is not None:
        takes_part = tl.load(VALID + row) != 0
        n = tl.where(takes_part, n, 0)
        flawed = tl.where(takes_part, flawed, 0)
    if SHARED:
        base = first // 16 * 16
        head = (first - base).to(tl.int32)
    else:
        base = first
        head = 0
    return base, head, head + n.to(tl.int32), head + size.to(tl.int32), flawed


@triton.jit
def start(at, base, row, stride, SHARED: tl.constexpr):
    """Where a row of an array with its own row stride begins."""
    return at + base if SHARED else at + row * stride


@triton.jit
def last_trained(MASK, head, used, BLOCK: tl.constexpr):
    """The last position that the mask keeps, or -1."""
    last = tl.where(used > head, used - 1, -1)
    if MASK is not None:
        last = tl.where(used > head, -1, -1)
        k = tl.cdiv(used, BLOCK)
        while (k > 0) & (last < 0):
            k -= 1
            p = k * BLOCK + tl.arange(0, BLOCK)
            kept = tl.load(MASK + p, mask=(p >= head) & (p < used), other=0) != 0
            last = tl.max(tl.where(kept, p, -1), 0)
    return last


@triton.jit
def within(p, head, used, FULL: tl.constexpr):
    """Which positions are in the row; ``FULL`` says that all are."""
    return tl.full(p.shape, 1, tl.int1) if FULL else (p >= head) & (p < used)


@triton.jit
def read(at, p, inside, FULL: tl.constexpr):
    """Elements, 0 outside; ``FULL`` says that all are inside, and makes the loads wide."""
    return tl.load(at + p) if FULL else tl.load(at + p, mask=inside, other=0)


@triton.jit
def write(at, p, x, inside, FULL: tl.constexpr):
    """Stores ``x`` in the type of the array, if there is an array."""
    if at is not None:
        if FULL:
            tl.store(at + p, x.to(at.dtype.element_ty))
        else:
            tl.store(at + p, x.to(at.dtype.element_ty), mask=inside)


@triton.jit
def zero_fill(at, chunks, head, slot, BLOCK: tl.constexpr):
    """Zeros in what lies beyond the chunks that are used."""
    if at is not None:
        for k in range(chunks, tl.cdiv(slot, BLOCK)):
            p = k * BLOCK + tl.arange(0, BLOCK)
            tl.store(at + p, tl.zeros([BLOCK], at.dtype.element_ty), mask=(p >= head) & (p < slot))


@triton.jit
def shown(head, used, slot):
    """Where the NaN of a flawed row ends: a row without positions shows it in its padding."""
    return tl.where(used > head, used, slot)


@triton.jit
def nan_fill(at, flawed, head, used, slot, BLOCK: tl.constexpr):
    """NaN in a flawed row."""
    if at is not None:
        end = shown(head, used, slot)
        for k in range(tl.where(flawed != 0, tl.cdiv(end, BLOCK), 0)):
            p = k * BLOCK + tl.arange(0, BLOCK)
            nan = tl.full([BLOCK], float("nan"), tl.float32).to(at.dtype.element_ty)
            tl.store(at + p, nan, mask=(p >= head) & (p < end))


@triton.jit
def number(pattern, ACC: tl.constexpr):
    """A number that was passed as the bits of a float64, because launches round a float to float32."""
    return tl.full([], pattern, tl.int64).to(tl.float64, bitcast=True).to(ACC)


@triton.jit
def fraction(AT, row, pattern, ACC: tl.constexpr):
    """A decay of the row, and 1 if it is not in [0, 1]; a number for all rows was looked at by the caller."""
    x = number(pattern, ACC)
    if AT is not None:
        x = tl.load(AT + row).to(ACC)
    return x, (~((x >= 0) & (x <= 1))).to(tl.int32)


@triton.jit
def row_reward(AT, VALID, row, has_token, ON_GAP: tl.constexpr, ACC: tl.constexpr):
    """The reward of a row, and 1 if it has no trained token to go to."""
    r = tl.full([], 0, ACC)
    homeless = tl.full([], 0, tl.int32)
    if AT is not None:
        r = tl.load(AT + row).to(ACC)
        if VALID is not None:
            r = tl.where(tl.load(VALID + row) != 0, r, 0.0)
        if ON_GAP != "drop":
            homeless = (~has_token & (r != 0)).to(tl.int32)
    return r, homeless


@triton.jit
def end_value(END, APPLIES, v_at, row, place, head, used, LAST: tl.constexpr, ACC: tl.constexpr):
    """The value after the last token."""
    x = tl.full([], 0, ACC)
    if END is not None:
        x = tl.load(END + row).to(ACC)
    if LAST:
        x = tl.load(v_at + place, mask=(place >= head) & (place < used), other=0).to(ACC)
    if APPLIES is not None:
        x = tl.where(tl.load(APPLIES + row) != 0, x, 0.0)
    return x


@triton.jit
def is_finite(x):
    """False for NaN and infinity."""
    return tl.abs(x) < float("inf")


def bits(x):
    """A number as the bits of a float64."""
    return struct.unpack("<q", struct.pack("<d", x))[0]


def flags(x):
    """A mask as a type that kernels can load: bools as bytes, ints as they are."""
    return x.view(torch.uint8) if x is not None and x.dtype == torch.bool else x


def dense(x):
    """With unit stride along a row; a copy only where it is not so."""
    return x if x is None or x.stride(-1) == 1 or x.shape[-1] < 2 else x.contiguous()


def column(x):
    """One number or flag a row, as kernels read it: one after another."""
    return x if x is None else flags(x).contiguous()


def share(*tokens):
    """True if one address serves all of these arrays: they are contiguous."""
    return all(x is None or x.is_contiguous() for x in tokens)


def row_stride(x):
    """Elements from row to row; packed arrays have none."""
    return 0 if x is None or x.dim() < 2 else x.stride(0)


def numbers(x):
    """A number for all rows as ``(None, bits)``, one a row as ``(tensor, 0)``; None is 0."""
    return (column(x), 0) if isinstance(x, torch.Tensor) else (None, bits(0.0 if x is None else x))


def tile(longest, most, *tokens, block=None):
    """Positions of a chunk, of a thread in it, and warps, for rows of at most ``longest`` tokens.

    A thread takes as many as its widest load brings, up to ``most``: only then is what it puts together its own. Few
    sizes, so that few kernels are compiled.
    """
    each = min(most, 16 // min(x.element_size() for x in tokens if x is not None))
    warps = 1 if longest <= 32 * each else 4 if longest <= 128 * each else 8
    return block or 32 * each * warps, each, warps
