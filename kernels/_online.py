"""Softmax statistics of a row in one pass: a running state for each lane, folded once at the end.

A tile is ``[C, R]``: C lanes with R logits each, 16 bytes that one thread loads at once. Each lane keeps its own state,
so that the loop over tiles has neither a shuffle nor a barrier. With ``k = log2(e) / T``, ``c = fp32(max x * k)`` of
what the lane has seen, ``d = fma(x, k, -c)`` and ``e = 2^d`` the state is::

    m = max x     c     l = sum e     w = sum e u     s = sum e^2     v = sum e u^2     t = sum (x k - ref)     at

``c`` is *the* reference point, rounded once and exact from then on: an offset of the logits costs no digits.
``u = d + h`` with ``h = 0``, but for the variance, where ``-h`` is a guess of the mean of ``d``: moments about it
cancel little. ``ref`` is a number near the logits for the same reason. ``at`` says where ``m`` was first seen.

A logit of -inf has ``e = 0`` and its ``d`` is cut at a value whose power is 0 in float32, so that 0 never meets
infinity; NaN passes through ``e``. Without any logit above -inf ``c`` is the lowest float32 and ``l`` is 0.
"""

import triton
import triton.language as tl

LN2: tl.constexpr = tl.constexpr(0.6931471805599453)
LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# 2 to this power is 0 in float32: as a factor it stands for minus infinity without ever meeting 0.
LOWEST: tl.constexpr = tl.constexpr(-200.0)
# The shift of what is empty so far. It is finite, so that the difference of two shifts is never NaN.
EMPTY: tl.constexpr = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def soft_capped(x, cap, inv_cap):
    """``cap tanh(x / cap)``; infinities stay, because a logit of -inf is probability 0 under a cap too.

    Near 0 a polynomial, elsewhere an exponential and a division; both are good to about three units in the last place,
    where ``1 - 2 / (e^2u + 1)`` alone would lose the digits of a small ``u``.
    """
    u = x * inv_cap
    q = u * u
    odd = tl.fma(q, 0.01724144071340561, -0.053045470267534256)
    odd = tl.fma(q, odd, 0.13325878977775574)
    odd = tl.fma(q, odd, -0.333331435918808)
    near = tl.fma(q * odd, u, u)
    far = 1.0 - 2.0 / (tl.exp2(u * 2.8853900817779268) + 1.0)
    return tl.where(tl.abs(x) == float("inf"), x, cap * tl.where(q < 0.25, near, far))


@triton.jit
def start(C: tl.constexpr):
    """The state of C lanes that have seen nothing."""
    zero = tl.zeros((C,), tl.float32)
    m = tl.full((C,), float("-inf"), tl.float32)
    c = tl.full((C,), EMPTY, tl.float32)
    return m, c, zero, zero, zero, zero, zero, tl.zeros((C,), tl.int32)


@triton.jit
def step(
    m,
    c,
    l,
    w,
    s,
    v,
    t,
    at,
    x,
    here,
    inside,
    k,
    h,
    ref,
    ENTROPY: tl.constexpr,
    SQUARES: tl.constexpr,
    VARIANCE: tl.constexpr,
    TOTAL: tl.constexpr,
    ARGMAX: tl.constexpr,
):
    """The state after a tile ``x`` of float32 logits, -inf where nothing was loaded.

    ``here [C]`` is where the logits of each lane begin; ``inside``, the mask of the load or None, is for ``t`` alone.
    """
    top = tl.maximum(m, tl.max(x, 1))
    if ARGMAX:
        at = tl.where(top > m, here, at)
    new = tl.maximum(top * k, EMPTY)
    dc = tl.maximum(c - new, LOWEST)
    a = tl.exp2(dc)
    d = tl.fma(x, k, -new[:, None])
    e = tl.exp2(d)
    if VARIANCE:
        u = tl.maximum(d, LOWEST) + h
        weighted = e * u
        v = tl.fma(tl.fma(l, dc, 2.0 * w), dc, v) * a + tl.sum(weighted * u, 1)
        w = tl.fma(l, dc, w) * a + tl.sum(weighted, 1)
    elif ENTROPY:
        w = tl.fma(l, dc, w) * a + tl.sum(e * tl.maximum(d, LOWEST), 1)
    if SQUARES:
        s = s * (a * a) + tl.sum(e * e, 1)
    if TOTAL:
        apart = tl.fma(x, k, -ref)
        if inside is not None:
            apart = tl.where(inside, apart, 0.0)
        t += tl.sum(apart, 1)
    l = tl.fma(l, a, tl.sum(e, 1))
    return top, new, l, w, s, v, t, at


@triton.jit
def fold(m, c, l, w, s, v, t, h, ref, count):
    """One state for all lanes: ``m, c, l, w, s, v, t`` about ``c``, with ``v = sum e (d - w / l)^2``.

    ``t`` becomes ``sum (x k - c)``; ``count`` is how many logits it has.
    """
    top = tl.max(m, 0)
    new = tl.max(c, 0)
    dc = tl.maximum(c - new, LOWEST)
    a = tl.exp2(dc)
    v = tl.sum(tl.fma(tl.fma(l, dc, 2.0 * w), dc, v) * a, 0)
    w = tl.sum(tl.fma(l, dc, w) * a, 0)
    l = tl.sum(l * a, 0)
    s = tl.sum(s * (a * a), 0)
    t = tl.sum(t, 0)
    v = tl.maximum(tl.fma(-w, w / tl.where(l == 0.0, 1.0, l), v), 0.0)
    w = tl.fma(-l, h, w)
    # All the logits of a part may be -inf, and then its shift is no number to add to.
    t = tl.where(t == float("-inf"), t, tl.fma(count, ref - new, t))
    return top, new, l, w, s, v, t


@triton.jit
def behind(x, m, inv_t):
    """``(x - m) / T`` in nats: how far a logit is behind the largest. By way of ``k`` it would be rounded twice."""
    return tl.where(x == float("-inf"), x, (x - m) * inv_t)


@triton.jit
def guess(x, k, VARIANCE: tl.constexpr):
    """``h`` and ``ref`` from a first tile: minus the mean of ``d`` under its softmax, and the mean of ``x k``.

    Without the variance ``h`` is 0, as :func:`step` then takes it.
    """
    c = tl.maximum(tl.max(tl.max(x, 1), 0) * k, EMPTY)
    d = tl.fma(x, k, -c)
    e = tl.exp2(d)
    l = tl.sum(tl.sum(e, 1), 0)
    w = tl.sum(tl.sum(e * tl.maximum(d, LOWEST), 1), 0)
    h = -w / tl.where(l == 0.0, 1.0, l)
    ref = tl.where(l == 0.0, 0.0, c - h)
    if VARIANCE:
        return h, ref
    else:
        return 0.0, ref
