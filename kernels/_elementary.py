"""Elementary functions in float32 without libdevice, within 2 ulp of float64; sigmoid and tanh 3.

NaN stays NaN. Polynomials are spelt with fused multiply-adds, so that results do not depend on what a compiler fuses.
"""

import triton
import triton.language as tl

# ln 2 in two parts; the first has 10 bits, so that a small integer times it is exact.
_LN2_HIGH = tl.constexpr(0.693359375)
_LN2_LOW = tl.constexpr(-2.1219444e-4)
_LOG2_E = tl.constexpr(1.4426950408889634)
# 1.5 * 2^23: added to a small number it rounds that to an integer, which is then in the low bits.
_ROUNDER = tl.constexpr(12582912.0)
_TINY = tl.constexpr(1.17549435e-38)


@triton.jit
def _clamp(x, low, high):
    """``x`` within bounds; NaN stays."""
    return tl.minimum(tl.maximum(x, low, tl.PropagateNan.ALL), high, tl.PropagateNan.ALL)


@triton.jit
def _split(x):
    """``(p, s)`` with ``e^x = 2 s (1 + p)``, s a power of two, for x in [-86.9, 88.8]."""
    shifted = tl.fma(x, _LOG2_E, _ROUNDER)
    n = shifted - _ROUNDER
    r = tl.fma(n, -_LN2_LOW, tl.fma(n, -_LN2_HIGH, x))
    # e^r - 1 for |r| <= ln 2 / 2; what is left out is below a quarter of the last digit.
    q = tl.fma(r, 1.0 / 5040, 1.0 / 720)
    q = tl.fma(q, r, 1.0 / 120)
    q = tl.fma(q, r, 1.0 / 24)
    q = tl.fma(q, r, 1.0 / 6)
    q = tl.fma(q, r, 0.5)
    p = tl.fma(q * r, r, r)
    s = ((shifted.to(tl.int32, bitcast=True) << 23) + (126 << 23)).to(tl.float32, bitcast=True)
    return p, s


@triton.jit
def exp(x):
    """``e^x`` to 2 ulp; 0 below 1.8e-38, inf from 88.73 on."""
    p, s = _split(_clamp(x, -86.9, 88.8))
    return tl.where(x < -86.9, 0.0, tl.fma(s, p, s) * 2.0)


@triton.jit
def expm1(x):
    """``e^x - 1`` to 2 ulp, near 0 too."""
    p, s = _split(_clamp(x, -20.0, 88.8))
    return tl.fma(s, p, s - 0.5) * 2.0


@triton.jit
def log(x):
    """Natural logarithm to 2 ulp, near 1 too; -inf of 0, NaN of negative numbers."""
    small = x < _TINY
    normal = tl.where(small, x * 8388608.0, x)
    bits = normal.to(tl.int32, bitcast=True)
    # The mantissa m in [sqrt(1/2), sqrt(2)), by the bits of sqrt(1/2).
    exponent = (bits - 0x3F3504F3) >> 23
    f = (bits - (exponent << 23)).to(tl.float32, bitcast=True) - 1.0
    e = (exponent - tl.where(small, 23, 0)).to(tl.float32)
    # log(1 + f) = f - f^2/2 + s (f^2/2 + R), s = f / (2 + f), by the series of atanh.
    s = tl.div_rn(f, f + 2.0)
    z = s * s
    series = tl.fma(tl.fma(tl.fma(tl.fma(z, 2.0 / 11, 2.0 / 9), z, 2.0 / 7), z, 2.0 / 5), z, 2.0 / 3) * z
    half = 0.5 * f * f
    low = tl.fma(s, half + series, e * _LN2_LOW)
    y = tl.fma(e, _LN2_HIGH, f - (half - low))
    y = tl.where(x == 0.0, -float("inf"), y)
    y = tl.where(x == float("inf"), x, y)
    return tl.where(x >= 0.0, y, float("nan"))


@triton.jit
def log1p(x):
    """``log(1 + x)`` to 2 ulp, near 0 too."""
    u = 1.0 + x
    y = log(u)
    # What rounding 1 + x lost, where that is a number.
    inside = (u > 0.0) & (u < float("inf"))
    safe = tl.where(inside, u, 1.0)
    return tl.where(inside, y + tl.div_rn(x - (safe - 1.0), safe), y)


@triton.jit
def sigmoid(x):
    """``1 / (1 + e^-x)`` to 3 ulp; 0 below 1.8e-38."""
    return tl.div_rn(tl.full([], 1.0, tl.float32), 1.0 + exp(-x))


@triton.jit
def tanh(x):
    """Hyperbolic tangent to 3 ulp."""
    t = expm1(_clamp(2.0 * tl.abs(x), 0.0, 40.0))
    y = tl.div_rn(t, t + 2.0)
    return tl.where(x < 0.0, -y, y)


@triton.jit
def exp_double(x):
    """``e^x`` of float64 to 2 ulp of float32, in the range of float32."""
    near = x.to(tl.float32)
    y = exp(near).to(tl.float64)
    return tl.where(tl.abs(x) < 1e3, tl.fma(y, x - near.to(tl.float64), y), y)
