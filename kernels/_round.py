"""Rounding of float32 results to the dtype of a tensor, the same compiled and interpreted."""

import triton
import triton.language as tl


@triton.jit
def _nothing():
    pass


#: Whether kernels run in Triton's interpreter. A constant of the process: Triton decides when a kernel is defined.
INTERPRETED: tl.constexpr = tl.constexpr(not isinstance(_nothing, triton.JITFunction))


@triton.jit
def to_dtype(x, dtype: tl.constexpr):
    """``x`` (float32) in ``dtype``, rounded once to nearest even, as torch rounds.

    The interpreter cuts float32 to bfloat16 instead of rounding; there it is done on the bits.
    """
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        kept = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        # Rounding the payload of a NaN could carry into the sign.
        return tl.where(x == x, kept, 0x7FC0).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        return x.to(dtype)
