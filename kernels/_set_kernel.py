"""One program for each row: statistics of the distribution over the allowed tokens of the row alone."""

import triton
import triton.language as tl

from ._finish import finish, log2_of, log_probability, store_partial
from ._online import LOG2E, behind, fold, guess, soft_capped, start, step
from ._rows import row_offset

_NOWHERE: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit
def _tile(X, TOKENS, at_row, column_stride, index, end, first, V, cap, inv_cap, CAPPED: tl.constexpr):
    """Tokens ``index`` of the list: their logits (-inf for one that is not here), columns, and which are here."""
    token = tl.load(TOKENS + index, mask=index < end, other=-1).to(tl.int64)
    column = token - first
    here = (index < end) & (token >= 0) & (column >= 0) & (column < V)
    x = tl.load(X + at_row + column * column_stride, mask=here, other=float("-inf")).to(tl.float32)
    if CAPPED:
        x = soft_capped(x, cap, inv_cap)
    return x, column.to(tl.int32), here


@triton.jit(
    do_not_specialize=[
        "Y", "IDS", "MASK", "INV_T", "TOKENS", "OFFSETS",
        "base_row", "rows_start", "inner", "outer_stride", "inner_stride", "column_stride", "length", "first", "total",
        "ignore", "K", "partial_stride",
    ]
)  # fmt: skip
def set_kernel(
    X,
    Y,
    IDS,
    MASK,
    INV_T,
    TOKENS,
    OFFSETS,
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
    length,
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
    CAPPED: tl.constexpr,
    C: tl.constexpr,
    R: tl.constexpr,
    KB: tl.constexpr,
):
    """Statistics of row ``i`` over ``TOKENS[OFFSETS[i]:OFFSETS[i + 1]]``."""
    piece_row = tl.program_id(0)
    row = piece_row.to(tl.int64) + base_row
    at_row = row_offset(piece_row, rows_start, inner, outer_stride, inner_stride)
    column_stride = column_stride.to(tl.int64)
    live = row >= 0
    if MASK is not None:
        live = tl.load(MASK + row) != 0
    if INV_T is not None:
        inv_t = tl.load(INV_T + row)
        k = inv_t * LOG2E
    # Offsets that were not checked read nothing outside the list.
    lo = tl.maximum(tl.load(OFFSETS + row).to(tl.int64), 0)
    hi = tl.minimum(tl.load(OFFSETS + row + 1).to(tl.int64), length)
    n = tl.where(live, tl.maximum(hi - lo, 0), 0).to(tl.int32)
    hi = lo + n
    y = tl.full((), -1, tl.int64)
    if Y is not None:
        y = tl.load(Y + row)

    m, c, l, w, s, v, t, at = start(C)
    off = tl.arange(0, C)[:, None] * R + tl.arange(0, R)[None, :]
    lane_count = tl.zeros((C,), tl.int32)
    lane_label = tl.zeros((C,), tl.int32)
    at += _NOWHERE
    h, ref = 0.0, 0.0
    if WANT_VARIANCE or WANT_TOTAL:
        near, _, _ = _tile(X, TOKENS, at_row, column_stride, lo + off, hi, first, V, cap, inv_cap, CAPPED)
        h, ref = guess(near, k, WANT_VARIANCE)
    for j in range(0, n, C * R):
        x, column, here = _tile(X, TOKENS, at_row, column_stride, lo + j + off, hi, first, V, cap, inv_cap, CAPPED)
        # The list is in any order, so that the first of ties is the smallest token.
        best = tl.max(x, 1)
        seen = tl.min(tl.where(here & (x == best[:, None]), column, _NOWHERE), 1)
        at = tl.where(best > m, seen, tl.where(best == m, tl.minimum(at, seen), at))
        lane_count += tl.sum(here.to(tl.int32), 1)
        lane_label += tl.sum((here & (column + first == y)).to(tl.int32), 1)
        m, c, l, w, s, v, t, at = step(
            m, c, l, w, s, v, t, at, x, at, here, k, h, ref,
            WANT_ENTROPY, WANT_SQUARES, WANT_VARIANCE, WANT_TOTAL, False,
        )  # fmt: skip

    count = tl.sum(lane_count, 0).to(tl.float32)
    lane_m = m
    m, c, l, w, s, v, t = fold(m, c, l, w, s, v, t, h, ref, count)
    top = tl.fma(m, k, -c)
    found = tl.min(tl.where(lane_m == m, at, _NOWHERE), 0)
    argmax = tl.where(found == _NOWHERE, 0, found + first)
    mine = tl.sum(lane_label, 0) > 0
    x = tl.load(X + at_row + (y - first) * column_stride, mask=mine, other=float("-inf")).to(tl.float32)
    if CAPPED:
        x = soft_capped(x, cap, inv_cap)
    label = behind(x, m, inv_t)
    if PARTIAL is not None:
        store_partial(PARTIAL + row * partial_stride, row >= 0, top, c, l, w, s, v, t, count, argmax, label)
    else:
        finish(
            row, row >= 0, live, top, c, l, w, s, v, t, count, argmax, label, y, total, ignore,
            LOGPROB, ENTROPY, LSE, SUM_P_SQUARED, VAR_LOGPROB, P_MAX, ARGMAX, MEAN_LOGPROB, SHIFT, LOG2_L,
        )  # fmt: skip
    if IDS is not None:
        log2_l = log2_of(l)
        for i in range(0, K, KB):
            index = i + tl.arange(0, KB)
            some = index < K
            picked = tl.load(IDS + row * K + index, mask=some, other=-1)
            hits = tl.zeros((KB,), tl.int32)
            for j in range(0, n, C):
                listed = lo + j + tl.arange(0, C)
                token = tl.load(TOKENS + listed, mask=listed < hi, other=-2).to(tl.int64)
                hits += tl.sum((token[:, None] == picked[None, :]).to(tl.int32), 0)
            places = picked - first
            allowed = some & (hits > 0) & (places >= 0) & (places < V)
            z = tl.load(X + at_row + places * column_stride, mask=allowed, other=float("-inf")).to(tl.float32)
            if CAPPED:
                z = soft_capped(z, cap, inv_cap)
            gaps = behind(z, m, inv_t)
            if PARTIAL is not None:
                tl.store(PARTIAL + row * partial_stride + 10 + index, gaps, mask=some)
            else:
                logprobs = tl.where(live, log_probability(gaps, log2_l, top, picked, total), 0.0)
                tl.store(GATHERED + row * K + index, logprobs, mask=some)
