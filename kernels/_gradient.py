"""What the backward kernels share: the numbers of a row, and the derivative at a logit.

With ``d = x k - c`` and ``e = d - log2 l`` (so that ``p = 2^e`` and ``log p = e ln 2``), and ``u = e + t``::

    dx = p (a + b u + s u^2 + c p) + m        at a logit of -inf: 0

``t`` is the entropy in bits where the variance is differentiated, whose polynomial is small near the mean, else 0.
"""

import triton
import triton.language as tl

from ._online import LN2, LOG2E, LOWEST


@triton.jit
def incoming(G, row, stride):
    """The gradient that flows into one output of a row; 0 if there is none."""
    g = 0.0
    if G is not None:
        g = tl.load(G + row * stride).to(tl.float32)
    return g


@triton.jit
def terms(
    row,
    scale,
    count,
    ENTROPY,
    SUM_P_SQUARED,
    VAR_LOGPROB,
    P_MAX,
    g_logprob,
    g_gathered,
    g_entropy,
    g_lse,
    g_sum_p_squared,
    g_var_logprob,
    g_p_max,
    g_mean_logprob,
):
    """``a, b, c, s, t, m`` of a row, and the spike at its most likely token; ``scale`` is 1 / T."""
    a = g_lse - g_logprob - g_gathered - g_mean_logprob
    b, c, s, t, top = 0.0, 0.0, 0.0, 0.0, 0.0
    if ENTROPY is not None:
        h = tl.load(ENTROPY + row)
        b = -g_entropy * LN2
        if VAR_LOGPROB is None:
            a -= g_entropy * h
        else:
            t = h * LOG2E
            b += g_var_logprob * (2 * LN2)
            s = g_var_logprob * (LN2 * LN2)
            a -= g_var_logprob * tl.load(VAR_LOGPROB + row)
    if SUM_P_SQUARED is not None:
        c = 2 * g_sum_p_squared
        a -= c * tl.load(SUM_P_SQUARED + row)
    if P_MAX is not None:
        top = g_p_max * tl.load(P_MAX + row)
        a -= top
    return a * scale, b * scale, c * scale, s * scale, t, g_mean_logprob / count * scale, top * scale


@triton.jit
def polynomial(e, a, b, c, s, t, m, LINEAR: tl.constexpr, CURVED: tl.constexpr, SQUARE: tl.constexpr):
    """``p (a + b u + s u^2 + c p) + m``."""
    p = tl.exp2(e)
    factor = a
    if LINEAR:
        # The maximum drops a NaN, which p keeps.
        u = tl.maximum(e, LOWEST)
        if CURVED:
            u += t
            factor = tl.fma(tl.fma(u, s, b), u, a)
        else:
            factor = tl.fma(u, b, a)
    if SQUARE:
        factor = tl.fma(p, c, factor)
    return tl.fma(p, factor, m)


@triton.jit
def small_tanh(u):
    q = u * u
    odd = tl.fma(q, 0.01724144071340561, -0.053045470267534256)
    odd = tl.fma(q, odd, 0.13325878977775574)
    odd = tl.fma(q, odd, -0.333331435918808)
    return tl.fma(q * odd, u, u)


@triton.jit
def capped_and_slope(x, cap, inv_cap):
    """``cap tanh(x / cap)`` as ``soft_capped`` has it up to its last digits, and the derivative, from one exponential.

    The derivative keeps its digits where the tanh is rounded to 1.
    """
    u = x * inv_cap
    a = tl.abs(u)
    q = tl.exp2(a * (-2 * LOG2E))
    r = 1.0 / (1.0 + q)
    far = (1.0 - q) * r
    far = tl.where(u < 0.0, -far, far)
    y = cap * tl.where(a < 0.5, small_tanh(u), far)
    return tl.where(tl.abs(x) == float("inf"), x, y), (4.0 * q) * (r * r)


@triton.jit
def derivative(
    x,
    k,
    shift,
    log2_l,
    cap,
    inv_cap,
    a,
    b,
    c,
    s,
    t,
    m,
    LINEAR: tl.constexpr,
    CURVED: tl.constexpr,
    SQUARE: tl.constexpr,
    MEAN: tl.constexpr,
    SOFTCAP: tl.constexpr,
):
    """``dx`` at the logits ``x``."""
    slope = 1.0
    if SOFTCAP:
        x, slope = capped_and_slope(x, cap, inv_cap)
    # Two steps: the sum of shift and log2_l would be rounded to as few digits as an offset of the logits leaves.
    e = tl.fma(x, k, -shift) - log2_l
    if MEAN:
        dx = polynomial(e, a, b, c, s, t, m, LINEAR, CURVED, SQUARE)
        dx = tl.where(e == float("-inf"), 0.0, dx)
    else:
        dx = polynomial(e, a, b, c, s, t, 0.0, LINEAR, CURVED, SQUARE)
    if SOFTCAP:
        dx *= slope
    return dx
