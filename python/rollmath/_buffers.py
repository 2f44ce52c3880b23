"""Buffers that the core copies without knowing their dtype: bits in, bits out, and ``out=``."""

from __future__ import annotations

import math
import operator
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, contiguous, describe, is_tensor

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


def is_host(x: Array) -> bool:
    """True for a NumPy array and for a tensor in the memory of the host."""
    return not is_tensor(x) or x.device.type == "cpu"


def no_grad(who: str, x: Any, name: str) -> Any:
    """The tensor, unless a gradient would be lost."""
    if x.requires_grad:
        msg = f"{who}(): {name!r} requires grad, but no gradient flows through this function; call .detach()"
        raise ValueError(msg)
    return x


def bits_of(who: str, name: str, x: Array) -> NDArray[Any]:
    """``x`` as unsigned integers of its element size, not copied if it is contiguous."""
    size = x.element_size() if is_tensor(x) else x.dtype.itemsize
    if size not in {1, 2, 4, 8} or (not is_tensor(x) and x.dtype.hasobject):
        msg = f"{who}(): {name!r} must have elements of 1, 2, 4 or 8 bytes, got {x.dtype}"
        raise TypeError(msg)
    if not is_tensor(x):
        return contiguous(x).view(f"u{size}")
    torch = sys.modules["torch"]
    words = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}
    bits: NDArray[Any] = no_grad(who, x, name).contiguous().view(words[size]).numpy()
    return bits


def fresh(count: int, dtype: torch.dtype, *, zeros: bool = False) -> torch.Tensor:
    """A 1-D CPU tensor in memory of NumPy.

    NumPy asks the system for large pages and gets zeroed ones for nothing; the allocator of torch does neither, and a
    fresh page costs more than the arithmetic on it.
    """
    # Of no bytes torch makes a tensor with stride 0, which has no other dtype.
    made = (np.zeros if zeros else np.empty)(max(count, 1) * dtype.itemsize, np.uint8)
    tensor: torch.Tensor = sys.modules["torch"].from_numpy(made).view(dtype)[:count]
    return tensor


def output(who: str, out: Array | None, shape: tuple[int, ...], like: Array) -> Array:
    """``out`` if it fits, else a fresh array of the kind and dtype of ``like``."""
    if out is None:
        try:
            if not is_tensor(like):
                return np.empty(shape, dtype=like.dtype)
            if like.device.type != "cpu":
                return like.new_empty(shape)
            return fresh(math.prod(shape), like.dtype).view(shape)
        except (MemoryError, RuntimeError, ValueError) as cause:
            msg = f"{who}(): cannot allocate a result of shape {shape} and dtype {like.dtype}"
            raise MemoryError(msg) from cause
    if not hasattr(out, "shape") or is_tensor(out) != is_tensor(like) or out.dtype != like.dtype:
        msg = f"{who}(): 'out' must be of the kind and dtype of the values ({like.dtype}), got {describe(out)}"
        raise TypeError(msg)
    if tuple(out.shape) != shape:
        msg = f"{who}(): 'out' must have shape {shape}, got {tuple(out.shape)}"
        raise ValueError(msg)
    if not (out.is_contiguous() if is_tensor(out) else out.flags.c_contiguous and out.flags.aligned):
        msg = f"{who}(): 'out' must be C-contiguous and aligned"
        raise ValueError(msg)
    if not is_tensor(out) and not out.flags.writeable:
        msg = f"{who}(): 'out' is read-only; pass an array that may be written to"
        raise ValueError(msg)
    return out


def as_width(who: str, width: Any) -> int:
    """A number of columns."""
    try:
        if isinstance(width, bool):
            raise TypeError
        n = operator.index(width)
    except TypeError:
        msg = f"{who}(): 'width' must be an integer, got {describe(width)}"
        raise TypeError(msg) from None
    if n < 0:
        msg = f"{who}(): 'width' must not be negative, got {n}"
        raise ValueError(msg)
    return n


def check_apart(who: str, out: NDArray[Any], x: NDArray[Any], name: str) -> None:
    """Two arrays over one buffer (two views of a tensor, say) look unrelated to the core."""
    if np.may_share_memory(out, x):
        msg = f"{who}(): 'out' shares memory with {name!r}; pass an array of its own"
        raise ValueError(msg)


def fill_bits(who: str, fill: Any, like: Array) -> NDArray[Any]:
    """One element of the dtype of ``like`` as bits; refuses what the dtype would cut off (1.5 as an integer)."""
    try:
        if not isinstance(fill, (bool, int, float, complex, np.number, np.bool_)):
            raise TypeError
        if is_tensor(like):
            one = sys.modules["torch"].full((1,), fill, dtype=like.dtype)
            same = one.item() == fill
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                one = np.full(1, fill, dtype=like.dtype)
            same = one.item() == fill
        rounded = getattr(like.dtype, "is_floating_point", False) or getattr(like.dtype, "kind", "") in {"f", "c"}
        if same or (rounded and abs(one.item()) != float("inf")):
            return bits_of(who, "fill", one)
    except (OverflowError, ValueError, TypeError, RuntimeError):
        pass
    msg = f"{who}(): 'fill' must fit {like.dtype}, got {fill!r}"
    raise ValueError(msg)
