"""The gradient at picked tokens: the label, the most likely token, K gathered ones; what meets at one token adds up."""

import triton
import triton.language as tl

from ._gradient import polynomial
from ._online import LOG2E


@triton.jit
def entry(
    j, row, K, label, IDS, GATHERED, LOGPROB, ARGMAX, P_MAX, G, g_row, g_column, label_spike, top_spike, scale
):  # fmt: skip
    """Entries ``j`` of the list of a row, label, most likely token, ids: the tokens, their log p, their spikes."""
    token = tl.full(j.shape, -1, tl.int64)
    ell = tl.zeros(j.shape, tl.float32)
    spike = tl.zeros(j.shape, tl.float32)
    if IDS is not None:
        one = (j >= 2) & (j < K + 2)
        at = row * K + (j - 2)
        token = tl.load(IDS + at, mask=one, other=-1)
        ell = tl.load(GATHERED + at, mask=one, other=0.0)
        spike = tl.load(G + row * g_row + (j - 2).to(tl.int64) * g_column, mask=one, other=0.0).to(tl.float32) * scale
    if LOGPROB is not None:
        token = tl.where(j == 0, label, token)
        ell = tl.where(j == 0, tl.load(LOGPROB + row), ell)
        spike = tl.where(j == 0, label_spike, spike)
    if P_MAX is not None:
        token = tl.where(j == 1, tl.load(ARGMAX + row), token)
        ell = tl.where(j == 1, tl.log2(tl.load(P_MAX + row)) / LOG2E, ell)
        spike = tl.where(j == 1, top_spike, spike)
    return token, ell, spike


@triton.jit
def at_token(
    ell,
    spike,
    a,
    b,
    c,
    s,
    t,
    m,
    shift,
    log2_l,
    k,
    inv_cap,
    LINEAR: tl.constexpr,
    CURVED: tl.constexpr,
    SQUARE: tl.constexpr,
    SOFTCAP: tl.constexpr,
):
    """The derivative at tokens whose log-probability is known: their logits may be overwritten by now."""
    e = ell * LOG2E
    dx = polynomial(e, a, b, c, s, t, m + spike, LINEAR, CURVED, SQUARE)
    if SOFTCAP:
        x = (e + log2_l + shift) / k * inv_cap
        dx *= tl.maximum(tl.fma(-x, x, 1.0), 0.0)
    return tl.where(ell == float("-inf"), 0.0, dx)
