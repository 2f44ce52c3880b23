"""One program for each row of logits, or for each part of a row: the pass over the vocabulary."""

import triton
import triton.language as tl

from ._finish import finish, log2_of, log_probability, store_partial
from ._online import LOG2E, behind, fold, guess, soft_capped, start, step
from ._rows import ALIGNED, PEELED, STRIDED, next_aligned, row_offset

# What may change from call to call without a compilation; numbers of a row are read alone, so that where they lie does
# not matter either.
_NEVER_SPECIALIZED = [
    "Y",
    "IDS",
    "MASK",
    "INV_T",
    "base_row",
    "rows_start",
    "inner",
    "outer_stride",
    "inner_stride",
    "column_stride",
    "span",
    "parts",
    "rows",
    "first",
    "total",
    "ignore",
    "K",
    "partial_stride",
]


@triton.jit
def _logits(p, mask, cap, inv_cap, CAPPED: tl.constexpr):
    """Logits in float32, -inf where ``mask`` says no."""
    if mask is None:
        x = tl.load(p, eviction_policy="evict_first").to(tl.float32)
    else:
        x = tl.load(p, mask=mask, other=float("-inf"), eviction_policy="evict_first").to(tl.float32)
    if CAPPED:
        x = soft_capped(x, cap, inv_cap)
    return x


@triton.jit
def _apart(column, column_stride, LAYOUT: tl.constexpr):
    """How far a column is from column 0."""
    if LAYOUT == STRIDED:
        return column.to(tl.int64) * column_stride
    else:
        return column


@triton.jit(do_not_specialize=_NEVER_SPECIALIZED)
def row_kernel(
    X,
    Y,
    IDS,
    MASK,
    INV_T,
    k,
    inv_t,
    cap,
    inv_cap,
    base_row,
    rows_start,
    inner,
    outer_stride,
    inner_stride,
    column_stride,
    V,
    span,
    parts,
    rows,
    first,
    total,
    ignore,
    K,
    LOGPROB,
    ENTROPY,
    LSE,
    SUM_P_SQUARED,
    VAR_LOGPROB,
    P_MAX,
    ARGMAX,
    MEAN_LOGPROB,
    GATHERED,
    SHIFT,
    LOG2_L,
    PARTIAL,
    partial_stride,
    WANT_ENTROPY: tl.constexpr,
    WANT_SQUARES: tl.constexpr,
    WANT_VARIANCE: tl.constexpr,
    WANT_TOTAL: tl.constexpr,
    WANT_ARGMAX: tl.constexpr,
    CAPPED: tl.constexpr,
    LAYOUT: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
    KB: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Statistics of ``span`` tiles of one row."""
    program = tl.program_id(0)
    piece_row = program // parts
    part = program - piece_row * parts
    row = piece_row.to(tl.int64) + base_row
    column_stride = column_stride.to(tl.int64)
    at_row = row_offset(piece_row, rows_start, inner, outer_stride, inner_stride)
    if LAYOUT == ALIGNED:
        at_row = next_aligned(at_row, R)
    live = row >= 0
    if MASK is not None:
        live = tl.load(MASK + row) != 0
    if INV_T is not None:
        inv_t = tl.load(INV_T + row)
        k = inv_t * LOG2E
    # Whole tiles, so that a part begins as aligned as its row.
    lo = part * span * (C * R)
    hi = tl.minimum(lo + span * (C * R), V)
    hi = tl.where(live, tl.maximum(hi, lo), lo)

    lane = tl.arange(0, C)
    off = lane[:, None] * R + tl.arange(0, R)[None, :]
    m, c, l, w, s, v, t, at = start(C)
    at += lo
    h, ref = 0.0, 0.0
    origin = lo
    if LAYOUT == PEELED:
        # Up to the first multiple of 16 bytes each lane takes one logit. A short row may end before it.
        begin = at_row + lo
        aligned = next_aligned(begin, R)
        head = tl.minimum((aligned - begin).to(tl.int32), hi - lo)
        origin = lo + head
        p = X + aligned
    elif LAYOUT == STRIDED:
        p = X + (at_row + lo * column_stride)
    else:
        p = X + (at_row + lo)
    n = hi - origin

    if WANT_VARIANCE or WANT_TOTAL:
        near = p
        if LAYOUT == PEELED:
            near = X + begin
        near += _apart(off, column_stride, LAYOUT)
        h, ref = guess(_logits(near, off < hi - lo, cap, inv_cap, CAPPED), k, WANT_VARIANCE)
    if LAYOUT == PEELED:
        few_inside = (lane < head)[:, None]
        few = _logits(X + at_row + lo + lane[:, None], few_inside, cap, inv_cap, CAPPED)
        m, c, l, w, s, v, t, at = step(
            m, c, l, w, s, v, t, at, few, lo + lane, few_inside, k, h, ref,
            WANT_ENTROPY, WANT_SQUARES, WANT_VARIANCE, WANT_TOTAL, WANT_ARGMAX,
        )  # fmt: skip
    whole = n // (C * R) * (C * R)
    for j in tl.range(0, whole, C * R, num_stages=STAGES):
        q = p + _apart(j + off, column_stride, LAYOUT)
        x = _logits(q, None, cap, inv_cap, CAPPED)
        m, c, l, w, s, v, t, at = step(
            m, c, l, w, s, v, t, at, x, origin + j + lane * R, None, k, h, ref,
            WANT_ENTROPY, WANT_SQUARES, WANT_VARIANCE, WANT_TOTAL, WANT_ARGMAX,
        )  # fmt: skip
    if whole < n:
        inside = whole + off < n
        q = p + _apart(whole + off, column_stride, LAYOUT)
        x = _logits(q, inside, cap, inv_cap, CAPPED)
        m, c, l, w, s, v, t, at = step(
            m, c, l, w, s, v, t, at, x, origin + whole + lane * R, inside, k, h, ref,
            WANT_ENTROPY, WANT_SQUARES, WANT_VARIANCE, WANT_TOTAL, WANT_ARGMAX,
        )  # fmt: skip

    count = (hi - lo).to(tl.float32)
    lane_m = m
    m, c, l, w, s, v, t = fold(m, c, l, w, s, v, t, h, ref, count)
    top = tl.fma(m, k, -c)
    argmax = first + lo
    if WANT_ARGMAX:
        # Each lane knows where the R logits began in which it saw its maximum first; they are looked at again.
        column = at[:, None] + tl.arange(0, R)[None, :]
        inside = (column < hi) & (lane_m == m)[:, None]
        x = _logits(X + at_row + column.to(tl.int64) * column_stride, inside, cap, inv_cap, CAPPED)
        found = tl.min(tl.where(inside & (x == m), column, 0x7FFFFFFF), 1)
        found = tl.min(found, 0)
        argmax = first + tl.where(found == 0x7FFFFFFF, lo, found)

    y = 0
    label = float("-inf")
    if Y is not None:
        y = tl.load(Y + row)
        place = y - first
        mine = (place >= lo) & (place < hi)
        label = behind(_logits(X + at_row + place * column_stride, mine, cap, inv_cap, CAPPED), m, inv_t)
    if PARTIAL is not None:
        store_partial(
            PARTIAL + (part.to(tl.int64) * rows + row) * partial_stride,
            row >= 0, top, c, l, w, s, v, t, count, argmax, label,
        )  # fmt: skip
    else:
        finish(
            row, row >= 0, live, top, c, l, w, s, v, t, count, argmax, label, y, total, ignore,
            LOGPROB, ENTROPY, LSE, SUM_P_SQUARED, VAR_LOGPROB, P_MAX, ARGMAX, MEAN_LOGPROB, SHIFT, LOG2_L,
        )  # fmt: skip
    if IDS is not None:
        log2_l = log2_of(l)
        for j in range(0, K, KB):
            index = j + tl.arange(0, KB)
            some = index < K
            picked = tl.load(IDS + row * K + index, mask=some, other=0)
            places = picked - first
            here = some & (places >= lo) & (places < hi)
            gaps = behind(_logits(X + at_row + places * column_stride, here, cap, inv_cap, CAPPED), m, inv_t)
            if PARTIAL is not None:
                tl.store(PARTIAL + (part.to(tl.int64) * rows + row) * partial_stride + 10 + index, gaps, mask=some)
            else:
                logprobs = tl.where(live, log_probability(gaps, log2_l, top, picked, total), 0.0)
                tl.store(GATHERED + row * K + index, logprobs, mask=some)
