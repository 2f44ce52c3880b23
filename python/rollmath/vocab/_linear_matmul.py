"""Matrix products whose result is rounded once, however many there are to add."""

from __future__ import annotations

from functools import cache

import torch

from rollmath.vocab._linear_plan import parts

_HALVES = (torch.float16, torch.bfloat16)

#: Elements of a product that is added to something where the library cannot do both at once.
ROOM = 1 << 22


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums of ``dtype`` are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@cache
def _supported(device: torch.device, dtype: torch.dtype) -> tuple[bool, bool]:
    """Whether products of 16-bit matrices come, and add up, in float32; versions and devices differ in what they take.

    What they do not take they refuse before anything is launched, so nothing waits for the device.
    """
    if device.type == "cpu" or dtype not in _HALVES:
        return False, False
    a = torch.zeros((16, 16), dtype=dtype, device=device)
    out = torch.zeros((16, 16), dtype=torch.float32, device=device)
    try:
        torch.mm(a, a, out_dtype=torch.float32, out=out)
    except (RuntimeError, TypeError):  # NotImplementedError is a RuntimeError
        return False, False
    try:
        torch.addmm(out, a, a, out_dtype=torch.float32, out=out)
    except (RuntimeError, TypeError):
        return True, False
    return True, True


def has_wide_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether matrices of ``dtype`` multiply into float32 (float64) without a wider copy of them."""
    return dtype not in _HALVES or _supported(device, dtype)[0]


def product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """``out = a @ b``, accumulated in float32 (float64) and rounded once."""
    if a.dtype == b.dtype == out.dtype:
        return torch.mm(a, b, out=out)
    if a.dtype == b.dtype and out.dtype == torch.float32 and _supported(a.device, a.dtype)[0]:
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    dtype = wide(out.dtype)
    # Exact where the library has no such product: 16-bit factors are float32 numbers too.
    if out.dtype == dtype:
        return torch.mm(a.to(dtype), b.to(dtype), out=out)
    return out.copy_(wide_product(a, b))


def wide_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` in float32 (float64)."""
    dtype = torch.float64 if torch.float64 in {a.dtype, b.dtype} else torch.float32
    return product(a, b, torch.empty((a.shape[0], b.shape[1]), dtype=dtype, device=a.device))


def add_product(out: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``out += a @ b``, the product in float32 (float64); an ``out`` of 16 bits is rounded by the addition."""
    if a.dtype == b.dtype == out.dtype:
        return out.addmm_(a, b)
    if out.dtype != wide(out.dtype):
        return out.add_(wide_product(a, b))
    if a.dtype == b.dtype and _supported(a.device, a.dtype)[0]:
        if _supported(a.device, a.dtype)[1]:
            return torch.addmm(out, a, b, out_dtype=torch.float32, out=out)
        # The product needs room beside the sum: some rows at a time.
        for at in parts(out.shape[0], max(1, ROOM // out.shape[1])):
            out[at].add_(wide_product(a[at], b))
        return out
    return out.addmm_(a.to(out.dtype), b.to(out.dtype))
