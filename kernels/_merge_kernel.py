"""Merging the parts of rows: splits of one launch, chunks of a vocabulary, shards of several ranks."""

import triton
import triton.language as tl

from ._finish import NOWHERE, finish, log2_of, log_probability, store_partial
from ._online import EMPTY, LN2, LOWEST


@triton.jit(
    do_not_specialize=["PARTIAL", "Y", "IDS", "MASK", "rows", "parts", "partial_stride", "total", "ignore", "K"]
)
def merge_kernel(
    PARTIAL,
    Y,
    IDS,
    MASK,
    rows,
    parts,
    partial_stride,
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
    MERGED,
    RB: tl.constexpr,
    SB: tl.constexpr,
):
    """RB rows of ``PARTIAL [parts, rows, columns]``, with room for SB parts."""
    row = tl.program_id(0).to(tl.int64) * RB + tl.arange(0, RB)
    part = tl.arange(0, SB)
    inside = row < rows
    both = inside[:, None] & (part < parts)[None, :]
    p = PARTIAL + (part[None, :].to(tl.int64) * rows + row[:, None]) * partial_stride
    c = tl.load(p + 0, mask=both, other=EMPTY)
    l = tl.load(p + 1, mask=both, other=0.0)
    w = tl.load(p + 2, mask=both, other=0.0)
    s = tl.load(p + 3, mask=both, other=0.0)
    v = tl.load(p + 4, mask=both, other=0.0)
    t = tl.load(p + 5, mask=both, other=0.0)
    argmax = tl.load(p + 6, mask=both, other=NOWHERE).to(tl.int32)
    label = tl.load(p + 7, mask=both, other=float("-inf"))
    top = tl.load(p + 8, mask=both, other=float("-inf"))
    count = tl.load(p + 9, mask=both, other=0.0)

    new = tl.max(c, 1)
    shift = tl.maximum(c - new[:, None], EMPTY)
    dc = tl.maximum(shift, LOWEST)
    a = tl.exp2(dc)
    # The parts with the largest shift; of those the ones with the largest maximum; of those the first token.
    winner = c == new[:, None]
    largest = tl.max(tl.where(winner, top, float("-inf")), 1)
    winner = winner & (top == largest[:, None])
    argmax = tl.min(tl.where(winner, argmax, NOWHERE), 1)
    argmax = tl.where(argmax == NOWHERE, 0, argmax)
    # How far the largest logit of a part is behind the largest of all.
    behind = LN2 * (shift + tl.where(top == float("-inf"), 0.0, top - largest[:, None]))
    label = tl.max(label + behind, 1)
    # Of two parts: the variance in each, and that of their means.
    share = l * a
    own_mean = w / tl.where(l == 0.0, 1.0, l) + dc
    l = tl.sum(share, 1)
    w = tl.sum(share * own_mean, 1)
    mean = w / tl.where(l == 0.0, 1.0, l)
    apart = own_mean - mean[:, None]
    v = tl.sum(tl.fma(share * apart, apart, v * a), 1)
    s = tl.sum(s * (a * a), 1)
    t = tl.sum(tl.fma(count, shift, t), 1)
    count = tl.sum(count, 1)

    if MERGED is not None:
        q = MERGED + row * partial_stride
        store_partial(q, inside, largest, new, l, w, s, v, t, count, argmax, label)
    else:
        live = inside
        if MASK is not None:
            live = tl.load(MASK + row, mask=inside, other=0) != 0
        y = row * 0
        if Y is not None:
            y = tl.load(Y + row, mask=inside, other=0)
        finish(
            row, inside, live, largest, new, l, w, s, v, t, count, argmax, label, y, total, ignore,
            LOGPROB, ENTROPY, LSE, SUM_P_SQUARED, VAR_LOGPROB, P_MAX, ARGMAX, MEAN_LOGPROB, SHIFT, LOG2_L,
        )  # fmt: skip
    if IDS is not None:
        log2_l = log2_of(l)
        for j in range(K):
            gap = tl.max(tl.load(p + 10 + j, mask=both, other=float("-inf")) + behind, 1)
            if MERGED is not None:
                tl.store(MERGED + row * partial_stride + 10 + j, gap, mask=inside)
            else:
                picked = tl.load(IDS + row * K + j, mask=inside, other=0)
                logprob = tl.where(live, log_probability(gap, log2_l, largest, picked, total), 0.0)
                tl.store(GATHERED + row * K + j, logprob, mask=inside)
