"""From the state of a row to its outputs, in one place for one launch, for merged parts, and for allowed sets."""

import triton
import triton.language as tl

from ._online import LN2

# More than any token id that a float32 holds exactly: the argmax of a part without tokens.
NOWHERE: tl.constexpr = tl.constexpr(16777216)


@triton.jit
def log2_of(l):
    """``log2 l``; NaN for 0, because nothing has a probability in a row without a possible token."""
    return tl.log2(tl.where(l == 0.0, float("nan"), l))


@triton.jit
def log_probability(gap, log2_l, top, y, total):
    """``ln p`` of a token from what :func:`behind` says of it; NaN for one outside the vocabulary."""
    known = (y >= 0) & (y < total)
    return tl.where(known, tl.fma(log2_l - top, -LN2, gap), float("nan"))


@triton.jit
def finish(
    row,
    inside,
    live,
    top,
    c,
    l,
    w,
    s,
    v,
    t,
    count,
    argmax,
    label,
    y,
    total,
    ignore,
    LOGPROB,
    ENTROPY,
    LSE,
    SUM_P_SQUARED,
    VAR_LOGPROB,
    P_MAX,
    ARGMAX,
    MEAN_LOGPROB,
    SHIFT,
    LOG2_L,
):
    """Stores what has a pointer. ``top`` is ``fma(max x, k, -c)``; rows that are not ``live`` get 0."""
    empty = l == 0.0
    log2_l = log2_of(l)
    l = tl.where(empty, float("nan"), l)
    if LOGPROB is not None:
        logprob = log_probability(label, log2_l, top, y, total)
        if ignore is not None:
            logprob = tl.where(y == ignore, 0.0, logprob)
        tl.store(LOGPROB + row, tl.where(live, logprob, 0.0), mask=inside)
    if ENTROPY is not None:
        tl.store(ENTROPY + row, tl.where(live, LN2 * (log2_l - w / l), 0.0), mask=inside)
    if LSE is not None:
        lse = tl.where(empty, float("-inf"), LN2 * (c + log2_l))
        tl.store(LSE + row, tl.where(live, lse, 0.0), mask=inside)
    if SUM_P_SQUARED is not None:
        tl.store(SUM_P_SQUARED + row, tl.where(live, s / l / l, 0.0), mask=inside)
    if VAR_LOGPROB is not None:
        tl.store(VAR_LOGPROB + row, tl.where(live, LN2 * LN2 * (v / l), 0.0), mask=inside)
    if P_MAX is not None:
        tl.store(P_MAX + row, tl.where(live, tl.exp2(top) / l, 0.0), mask=inside)
    if ARGMAX is not None:
        tl.store(ARGMAX + row, tl.where(live, argmax, 0).to(tl.int64), mask=inside)
    if MEAN_LOGPROB is not None:
        tl.store(MEAN_LOGPROB + row, tl.where(live, LN2 * (t / tl.maximum(count, 1.0) - log2_l), 0.0), mask=inside)
    tl.store(SHIFT + row, tl.where(live, c, 0.0), mask=inside)
    tl.store(LOG2_L + row, tl.where(live, tl.where(empty, float("-inf"), log2_l), 0.0), mask=inside)


@triton.jit
def store_partial(P, inside, top, c, l, w, s, v, t, count, argmax, label):
    """The columns of ``PARTIALS``, in their order."""
    tl.store(P + 0, c, mask=inside)
    tl.store(P + 1, l, mask=inside)
    tl.store(P + 2, w, mask=inside)
    tl.store(P + 3, s, mask=inside)
    tl.store(P + 4, v, mask=inside)
    tl.store(P + 5, t, mask=inside)
    tl.store(P + 6, tl.where(count == 0.0, NOWHERE, argmax), mask=inside)
    tl.store(P + 7, label, mask=inside)
    tl.store(P + 8, top, mask=inside)
    tl.store(P + 9, count, mask=inside)
