"""Sums, means and variances of segments, normalisation by them, and whitening over all trained tokens, on a device.

A segment is a row of tokens (padded or packed), or a group: ``index[offsets[i] .. offsets[i + 1]]``. Its moments take
two passes (the second reads what the first left in the cache), so nothing cancels; segments are merged by weight, mean
and sum of squared deviations, in their order, by one program. No atomics: the same input gives the same bits.
Arithmetic is in float64, as on the CPU.
"""

import torch
import triton
import triton.language as tl

from ._config import launching
from ._tokens import (
    EXACT,
    bits,
    bounds,
    column,
    dense,
    flags,
    is_finite,
    number,
    read,
    row_stride,
    share,
    shown,
    start,
    within,
    write,
)

#: Columns of the moments of a segment.
MOMENTS = ("count", "sum", "mean", "squares", "low", "high")


@triton.jit
def _values(x_at, m_at, INDEX, k, head, used, FULL: tl.constexpr, BLOCK: tl.constexpr):
    """``(x, kept, place)`` of one chunk of a segment; ``x`` is 0 where it is not kept."""
    p = k * BLOCK + tl.arange(0, BLOCK)
    inside = within(p, head, used, FULL)
    place = p
    if INDEX is not None:
        place = read(INDEX, p, inside, FULL)
    kept = inside
    if m_at is not None:
        kept = read(m_at, place, inside, FULL) != 0
    x = read(x_at, place, inside, FULL).to(tl.float64)
    return tl.where(kept, x, 0.0), kept, place


@triton.jit
def _chunk(x_at, m_at, INDEX, k, head, used, BLOCK: tl.constexpr):
    """The same, with wide loads where the chunk lies in the segment as a whole."""
    if (k * BLOCK >= head) & (k * BLOCK + BLOCK <= used):
        x, kept, place = _values(x_at, m_at, INDEX, k, head, used, True, BLOCK)
    else:
        x, kept, place = _values(x_at, m_at, INDEX, k, head, used, False, BLOCK)
    return x, kept, place


@triton.jit
def _moments_of(x_at, m_at, INDEX, head, used, BLOCK: tl.constexpr):
    """Count, sum, mean, sum of squared deviations, lowest and highest of one segment."""
    count = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    low = tl.full([BLOCK], float("inf"), tl.float64)
    high = tl.full([BLOCK], float("-inf"), tl.float64)
    chunks = tl.cdiv(used, BLOCK)
    for k in range(chunks):
        x, kept, _ = _chunk(x_at, m_at, INDEX, k, head, used, BLOCK)
        count += kept.to(tl.float64)
        total += x
        low = tl.minimum(low, tl.where(kept, x, float("inf")))
        high = tl.maximum(high, tl.where(kept, x, float("-inf")))
    n = tl.sum(count, 0)
    s = tl.sum(total, 0)
    lowest = tl.min(low, 0)
    highest = tl.max(high, 0)
    # Equal values have exactly their value for a mean. Minimum and maximum do not see NaN, the sum does.
    equal = (lowest == highest) & is_finite(s)
    safe = tl.maximum(n, 1.0)
    mean = tl.where(equal, lowest, s / safe)
    squares = tl.zeros([BLOCK], tl.float64)
    rest = tl.zeros([BLOCK], tl.float64)
    for k in range(chunks):
        x, kept, _ = _chunk(x_at, m_at, INDEX, k, head, used, BLOCK)
        d = tl.where(kept, x - mean, 0.0)
        squares = tl.fma(d, d, squares)
        rest += d
    r = tl.sum(rest, 0)
    q = tl.sum(squares, 0)
    # What the rounding of the mean adds; NaN stays.
    q = q - r * r / safe
    q = tl.where(equal | (q < 0), 0.0, q)
    return n, s, tl.where(n > 0, mean, float("nan")), q, lowest, highest


@triton.jit(do_not_specialize=["width"])
def _moments(
    X,
    MASK,
    INDEX,
    OFFSETS,
    LENGTHS,
    VALID,
    FLAWED,
    OUT,
    stride,
    mask_stride,
    width,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    base, head, used, _, flawed = bounds(OFFSETS, LENGTHS, VALID, row, width, SHARED)
    if FLAWED is not None:
        flawed |= tl.load(FLAWED + row)
    x_at = X
    m_at = MASK
    i_at = INDEX
    if INDEX is None:
        x_at = start(X, base, row, stride, SHARED)
        m_at = start(MASK, base, row, mask_stride, SHARED) if MASK is not None else None
    else:
        i_at = INDEX + base
    n, s, mean, q, low, high = _moments_of(x_at, m_at, i_at, head, used, BLOCK)
    # Also where nothing is trained, so that it shows.
    s = tl.where(flawed != 0, float("nan"), s)
    mean = tl.where(flawed != 0, float("nan"), mean)
    n = tl.where((flawed != 0) & (n == 0), 1.0, n)
    tl.store(OUT + row * 6, n)
    tl.store(OUT + row * 6 + 1, s)
    tl.store(OUT + row * 6 + 2, mean)
    tl.store(OUT + row * 6 + 3, q)
    tl.store(OUT + row * 6 + 4, low)
    tl.store(OUT + row * 6 + 5, high)


@triton.jit
def _divisor(std, eps, PLACE: tl.constexpr):
    """What a standard deviation of ``std`` divides by."""
    if PLACE == "sqrt":
        d = tl.sqrt(tl.fma(std, std, eps))
    elif PLACE == "add":
        d = std + eps
    elif PLACE == "max":
        d = tl.where(std < eps, eps, std)
    else:
        d = tl.where(std > 0, std + eps, 1.0)
    return d


@triton.jit(do_not_specialize=["rows", "eps"])
def _merge(
    PARTS,
    WEIGHTS,
    OUT,
    rows,
    eps,
    SHIFT: tl.constexpr,
    SCALE: tl.constexpr,
    DDOF: tl.constexpr,
    PLACE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The whitening ``(x - mean) / divisor + add`` of all segments together."""
    lanes = tl.arange(0, BLOCK)
    weight = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    low = tl.full([BLOCK], float("inf"), tl.float64)
    high = tl.full([BLOCK], float("-inf"), tl.float64)
    for k in range(tl.cdiv(rows, BLOCK)):
        i = (k * BLOCK + lanes).to(tl.int64)
        inside = i < rows
        w = tl.load(PARTS + i * 6, mask=inside, other=0.0)
        if WEIGHTS is not None:
            w *= tl.load(WEIGHTS + i, mask=inside, other=0.0).to(tl.float64)
        # A weight that is no weight shows in every result.
        w = tl.where(w >= 0, w, float("nan"))
        seen = inside & (w != 0)
        weight += w
        total += tl.where(seen, w * tl.load(PARTS + i * 6 + 2, mask=seen, other=0.0), 0.0)
        low = tl.minimum(low, tl.load(PARTS + i * 6 + 4, mask=seen, other=float("inf")))
        high = tl.maximum(high, tl.load(PARTS + i * 6 + 5, mask=seen, other=float("-inf")))
    n = tl.sum(weight, 0)
    s = tl.sum(total, 0)
    lowest = tl.min(low, 0)
    equal = (lowest == tl.max(high, 0)) & is_finite(s)
    mean = tl.where(equal, lowest, s / tl.where(n > 0, n, 1.0))
    squares = tl.zeros([BLOCK], tl.float64)
    for k in range(tl.cdiv(rows, BLOCK)):
        i = (k * BLOCK + lanes).to(tl.int64)
        inside = i < rows
        w = tl.load(PARTS + i * 6, mask=inside, other=0.0)
        q = tl.load(PARTS + i * 6 + 3, mask=inside, other=0.0)
        if WEIGHTS is not None:
            by = tl.load(WEIGHTS + i, mask=inside, other=0.0).to(tl.float64)
            w *= by
            q *= by
        seen = inside & (w != 0)
        d = tl.load(PARTS + i * 6 + 2, mask=seen, other=0.0) - mean
        squares += tl.where(seen, tl.fma(w * d, d, q), 0.0)
    q = tl.sum(squares, 0)
    e = number(eps, tl.float64)
    divisor = tl.full([], 1, tl.float64)
    if SCALE:
        enough = n > DDOF
        divisor = tl.where(enough, _divisor(tl.sqrt(q / tl.where(enough, n - DDOF, 1.0)), e, PLACE), 1.0)
    divisor = tl.where(equal, 1.0, divisor)
    # What is not finite shows in every result, and nothing at all in none.
    wrong = ~(is_finite(s) & is_finite(q))
    mean = tl.where(wrong, float("nan"), mean)
    mean = tl.where(n == 0, 0.0, mean)
    divisor = tl.where(n == 0, 1.0, divisor)
    tl.store(OUT, mean)
    tl.store(OUT + 1, divisor)
    tl.store(OUT + 2, tl.where(n == 0, 0.0, mean * (1 - SHIFT)))


@triton.jit(do_not_specialize=["width", "parts"])
def _affine(
    X,
    MASK,
    OFFSETS,
    LENGTHS,
    VALID,
    FLAWED,
    MAP,
    OUT,
    stride,
    mask_stride,
    width,
    parts,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """``(x - mean) / divisor + add`` at trained tokens, 0 elsewhere; several programs share a row."""
    row = (tl.program_id(0) // parts).to(tl.int64)
    base, head, used, slot, flawed = bounds(OFFSETS, LENGTHS, VALID, row, width, SHARED)
    if FLAWED is not None:
        flawed |= tl.load(FLAWED + row)
    x_at = start(X, base, row, stride, SHARED)
    m_at = start(MASK, base, row, mask_stride, SHARED) if MASK is not None else None
    o_at = start(OUT, base, row, width, True)
    mean = tl.load(MAP)
    divisor = tl.load(MAP + 1)
    add = tl.load(MAP + 2)
    # A flawed row is NaN, gaps included, as after a scan.
    mean = tl.where(flawed != 0, float("nan"), mean)
    elsewhere = tl.where(flawed != 0, float("nan"), 0.0).to(tl.float64)
    for k in range(tl.program_id(0) % parts, tl.cdiv(slot, BLOCK), parts):
        p = k * BLOCK + tl.arange(0, BLOCK)
        if (k * BLOCK >= head) & (k * BLOCK + BLOCK <= used):
            x, kept, _ = _values(x_at, m_at, None, k, head, used, True, BLOCK)
            y = tl.where(kept, (x - mean) / divisor + add, elsewhere)
            write(o_at, p, y, kept, True)
        else:
            x, kept, _ = _values(x_at, m_at, None, k, head, used, False, BLOCK)
            rest = tl.where(p < shown(head, used, slot), elsewhere, 0.0)
            y = tl.where(kept, (x - mean) / divisor + add, rest)
            write(o_at, p, y, within(p, head, slot, False), False)


@triton.jit(do_not_specialize=["eps"])
def _normalize(
    X,
    INDEX,
    OFFSETS,
    VALID,
    OUT,
    eps,
    SCALE: tl.constexpr,
    DDOF: tl.constexpr,
    PLACE: tl.constexpr,
    SINGLETON: tl.constexpr,
    ZERO: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    first = tl.load(OFFSETS + row)
    used = (tl.load(OFFSETS + row + 1) - first).to(tl.int32)
    x_at = X
    v_at = VALID
    o_at = OUT
    i_at = INDEX
    if INDEX is None:
        x_at = X + first
        v_at = start(VALID, first, row, 0, True) if VALID is not None else None
        o_at = OUT + first
    else:
        i_at = INDEX + first
    n, s, mean, q, low, high = _moments_of(x_at, v_at, i_at, 0, used, BLOCK)
    e = number(eps, tl.float64)
    std = tl.sqrt(q / tl.maximum(n - DDOF, 1.0))
    equal = (low == high) & is_finite(s)
    for k in range(tl.cdiv(used, BLOCK)):
        x, kept, place = _chunk(x_at, v_at, i_at, k, 0, used, BLOCK)
        y = x - mean
        if SCALE:
            if ZERO == "zero":
                y = tl.where(equal, 0.0, y / _divisor(std, e, PLACE))
            elif ZERO == "nan":
                y = tl.where(equal, float("nan"), y / _divisor(std, e, PLACE))
            else:
                y = tl.where(equal, y, y / _divisor(std, e, PLACE))
        # A group of one.
        if SINGLETON == "zero":
            y = tl.where(n == 1, 0.0, y)
        elif SINGLETON == "nan":
            y = tl.where(n == 1, float("nan"), y)
        else:
            spread = tl.full([BLOCK], 1, tl.float64)
            if SINGLETON == "abs":
                spread = tl.abs(x)
            alone = x
            if SCALE:
                alone = tl.where(x == 0, 0.0, x / _divisor(spread, e, PLACE))
            y = tl.where(n == 1, alone, y)
        inside = k * BLOCK + tl.arange(0, BLOCK) < used
        tl.store(o_at + place, tl.where(kept, y, 0.0).to(OUT.dtype.element_ty), mask=inside)


def _rows_of(x, offsets):
    return (x.shape[0], x.shape[1]) if offsets is None else (offsets.numel() - 1, 0)


def moments(x, *, offsets=None, index=None, mask=None, lengths=None, valid=None, flawed=None, longest=None, block=None):
    """Moments of segments, float64 ``[segments, 6]``: count, sum, mean, sum of squared deviations, lowest, highest.

    Args:
        x: tokens, padded ``[rows, width]`` or packed ``[tokens]``, any float type.
        offsets: int64 ``[segments + 1]``: segments are packed.
        index: int64: the members of segment ``i`` are ``x[index[offsets[i]]]`` and so on; else they are adjacent.
        mask: bools or ints, like ``x``; the others have no part.
        lengths: ints ``[rows]``, used columns of padded rows; one that a row cannot have gives NaN.
        valid: bools or bytes ``[segments]``; the others are empty.
        flawed: int32 ``[segments]``, as ``scan.gae`` notes them: not 0 gives NaN, and a count of at least 1.
        longest: the longest segment, if it is known; it chooses the block alone.
        block: positions of a chunk.

    Equal values have exactly their value for a mean, and squares 0. An empty segment has count and sum 0, mean NaN,
    lowest infinity, highest -infinity. NaN makes sum, mean and squares NaN.
    """
    assert mask is None or mask.shape == x.shape, "a mask like the values"
    rows, width = _rows_of(x, offsets)
    out = torch.empty(rows, len(MOMENTS), dtype=torch.float64, device=x.device)
    if rows == 0:
        return out
    x, mask = dense(x), dense(flags(mask))
    size = block or (256 if (longest or width or 1024) <= 256 else 1024)
    shared = share(x, mask) and index is None
    with launching(x.device):
        _moments[(rows,)](
            x, mask, column(index), column(offsets), column(lengths), column(valid), flawed, out, row_stride(x),
            row_stride(mask), width, SHARED=shared, BLOCK=size, num_warps=8, **EXACT,
        )  # fmt: skip
    return out


def merge(parts, *, weights=None, shift_mean=True, scale=True, ddof=1, eps=1e-8, eps_place="sqrt"):
    """``(mean, divisor, add)`` that whiten with the moments of all segments, float64 ``[3]``.

    ``(x - mean) / divisor + add``; ``weights`` ``[segments]`` say how often each counts. Equal values, and too few
    values for a variance, have divisor 1; no values at all leave everything as it is. Moments or weights that are not
    finite, and weights below 0, give NaN.
    """
    out = torch.empty(3, dtype=torch.float64, device=parts.device)
    with launching(parts.device):
        _merge[(1,)](
            parts, column(weights), out, parts.shape[0], bits(eps),
            SHIFT=int(shift_mean), SCALE=bool(scale), DDOF=ddof, PLACE=eps_place, BLOCK=1024, num_warps=8, **EXACT,
        )  # fmt: skip
    return out


def affine(x, by, out, *, offsets=None, mask=None, lengths=None, valid=None, flawed=None, longest=None, block=None):
    """Writes ``(x - mean) / divisor + add`` at trained tokens and 0 elsewhere; ``out`` may be ``x``.

    NaN in rows that are ``flawed``, or have a length that they cannot have.
    """
    assert out.is_contiguous(), "a contiguous output"
    assert out.shape == x.shape, "an output like the values"
    assert mask is None or mask.shape == x.shape, "a mask like the values"
    rows, width = _rows_of(x, offsets)
    if rows == 0 or x.numel() == 0:
        return
    x, mask = dense(x), dense(flags(mask))
    size = block or 1024
    # About as many programs as chunks, up to eight for a row.
    parts = min(8, triton.cdiv(longest or width or size, size))
    with launching(x.device):
        _affine[(rows * parts,)](
            x, mask, column(offsets), column(lengths), column(valid), flawed, by, out, row_stride(x), row_stride(mask),
            width, parts, SHARED=share(x, mask), BLOCK=size, num_warps=8, **EXACT,
        )  # fmt: skip


def normalize(
    x,
    offsets,
    *,
    out,
    index=None,
    valid=None,
    scale=True,
    ddof=1,
    eps=1e-6,
    eps_place="add",
    singleton="zero",
    zero_spread="zero",
    block=256,
):
    """Writes ``(x - mean) / (std + eps)`` of each group, one program a group.

    The keywords are the fields of a ``rollmath.conventions.Convention`` (what raises there cannot raise here: NaN in a
    group makes all of it NaN). Members that are not ``valid`` have no part and get 0; a group without spread, found by
    its lowest and highest member, gets exactly 0.
    """
    assert out.is_contiguous(), "a contiguous output"
    assert out.shape == x.shape, "an output like the values"
    groups = offsets.numel() - 1
    if groups == 0:
        return
    with launching(x.device):
        _normalize[(groups,)](
            x.contiguous(), column(index), column(offsets), column(valid), out, bits(eps),
            SCALE=bool(scale), DDOF=ddof, PLACE=eps_place, SINGLETON=singleton, ZERO=zero_spread, BLOCK=block,
            num_warps=1 if block <= 256 else 4, **EXACT,
        )  # fmt: skip
