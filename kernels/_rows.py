"""Rows of logits of any strides, without a copy: how the host describes them, and where a kernel finds one."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

#: How the logits of a row lie. Aligned: one after another, and each row starts at a multiple of 16 bytes. Peeled: one
#: after another from anywhere, so that up to 15 bytes come before the first aligned load. Strided: anything else.
ALIGNED: tl.constexpr = tl.constexpr(0)
PEELED: tl.constexpr = tl.constexpr(1)
STRIDED: tl.constexpr = tl.constexpr(2)


@dataclass(frozen=True)
class Rows:
    """Some rows ``first_row, ..., first_row + count - 1`` of a tensor, which two strides describe."""

    base: torch.Tensor  #: its pointer is what the kernel gets
    start: int  #: elements from there to the first row
    first_row: int
    count: int
    inner: int  #: row i is row i % inner of block i // inner
    outer_stride: int
    inner_stride: int
    column_stride: int
    layout: int
    vector: int  #: elements in 16 bytes


def rows_of(x: torch.Tensor) -> Iterator[Rows]:
    """The rows of ``x [..., V]``, in one piece where two strides describe them; otherwise slice by slice."""
    x = x.detach()
    if x.numel():
        yield from _pieces(x, 0)


def _pieces(x: torch.Tensor, first_row: int) -> Iterator[Rows]:
    axes = _merged(x)
    if len(axes) <= 2:
        yield _describe(x, first_row, axes)
        return
    for part in x:
        yield from _pieces(part, first_row)
        first_row += part.numel() // part.shape[-1]


def _merged(x: torch.Tensor) -> list[tuple[int, int]]:
    """Size and stride of the leading axes, with those joined that one stride describes."""
    axes: list[tuple[int, int]] = []
    for size, stride in zip(x.shape[:-1], x.stride()[:-1], strict=True):
        if size == 1:
            continue
        if axes and axes[-1][1] == size * stride:
            axes[-1] = axes[-1][0] * size, stride
        else:
            axes.append((size, stride))
    return axes


def _describe(x: torch.Tensor, first_row: int, axes: list[tuple[int, int]]) -> Rows:
    outer_count, outer_stride = axes[0] if len(axes) == 2 else (1, 0)
    inner, inner_stride = axes[-1] if axes else (1, 0)
    column_stride = x.stride(-1) if x.shape[-1] > 1 else 1
    vector = 16 // x.element_size()
    base, start, layout = x, 0, STRIDED.value
    if column_stride == 1:
        lead = x.data_ptr() % 16 // x.element_size()
        if lead == 0 and outer_stride % vector == 0 and inner_stride % vector == 0:
            layout = ALIGNED.value
        elif x.storage_offset() >= lead:
            # A pointer that is known to be aligned, and the rest as a number.
            base, start, layout = x.as_strided((1,), (1,), x.storage_offset() - lead), lead, PEELED.value
    return Rows(
        base, start, first_row, outer_count * inner, inner, outer_stride, inner_stride, column_stride, layout, vector
    )


@triton.jit
def row_offset(row, start, inner, outer_stride, inner_stride, LAYOUT: tl.constexpr, R: tl.constexpr):
    """Elements from the base to row ``row`` of a piece, in 64 bits; a multiple of R is known to be one."""
    block = row // inner
    within = row - block * inner
    # The casts come first: in 32 bits the products wrap from 2^31 elements on.
    at = block.to(tl.int64) * outer_stride + within.to(tl.int64) * inner_stride
    if LAYOUT == ALIGNED:
        return at // R * R
    else:
        return at + start
