"""Rows of tensors of one shape and any strides, as few launches as possible and never a copy."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ._rows import ALIGNED, PEELED, STRIDED


class View(NamedTuple):
    """A tensor as rows: element ``start + (row // inner) * outer + (row % inner) * step + column * columns``."""

    tensor: torch.Tensor
    start: int
    outer: int
    step: int
    columns: int

    @property
    def lanes(self) -> int:
        """Elements of 16 bytes, the widest load."""
        return 16 // self.tensor.element_size()

    @property
    def phase(self) -> tuple[int, int, int] | None:
        """How far from a boundary of 16 bytes rows begin, or None if their elements do not lie side by side."""
        if self.columns != 1 or self.tensor.data_ptr() % 16:
            return None
        return self.start % self.lanes, self.outer % self.lanes, self.step % self.lanes


class Slice(NamedTuple):
    """``rows`` rows of all tensors, from row ``first`` on."""

    first: int
    rows: int
    inner: int
    views: tuple[View, ...]

    @property
    def layout(self) -> int:
        """Aligned or peeled only if all tensors are, and equally far from a boundary of 16 bytes."""
        phases = {view.phase for view in self.views}
        sizes = {view.lanes for view in self.views}
        if None in phases:
            return int(STRIDED.value)
        if phases == {(0, 0, 0)}:
            return int(ALIGNED.value)
        return int(PEELED.value if len(phases) == len(sizes) == 1 else STRIDED.value)


def slices(*tensors: torch.Tensor) -> Iterator[Slice]:
    """Rows along the last axis of tensors of one shape: leading axes that two strides cannot describe one by one."""
    shape = tensors[0].shape
    if shape[:-1].numel() == 0:
        return
    axes: list[tuple[int, tuple[int, ...]]] = []
    for axis, size in enumerate(shape[:-1]):
        strides = tuple(x.stride(axis) for x in tensors)
        if size == 1:
            continue
        if axes and all(a == b * size for a, b in zip(axes[-1][1], strides, strict=True)):
            axes[-1] = (axes[-1][0] * size, strides)
        else:
            axes.append((size, strides))
    flat = (0,) * len(tensors)
    while len(axes) < 2:
        axes.insert(0, (1, flat))
    (outer, outer_strides), (inner, steps) = axes[-2:]
    bases = [_base(x) for x in tensors]
    for number, shift in enumerate(_offsets(axes[:-2], len(tensors))):
        views = tuple(
            View(base, start + by, stride, step, 1 if x.shape[-1] == 1 else x.stride(-1))
            for x, (base, start), by, stride, step in zip(tensors, bases, shift, outer_strides, steps, strict=True)
        )
        yield Slice(number * outer * inner, outer * inner, inner, views)


def _offsets(axes: list[tuple[int, tuple[int, ...]]], count: int) -> Iterator[tuple[int, ...]]:
    """Element offsets of the slices along some axes, in the order of the rows."""
    if not axes:
        yield (0,) * count
        return
    (size, strides), *rest = axes
    for i in range(size):
        for offset in _offsets(rest, count):
            yield tuple(i * stride + by for stride, by in zip(strides, offset, strict=True))


def _base(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """``x`` as a pointer to a boundary of 16 bytes, if its storage has one before it, and the elements from there."""
    size = x.element_size()
    shift = x.data_ptr() % 16 // size
    # Memory of another library may begin anywhere, and nothing before it may be named.
    if x.data_ptr() % size or not shift or x.storage_offset() < shift:
        return x, 0
    return x.as_strided((1,), (1,), x.storage_offset() - shift), shift


def like(x: torch.Tensor) -> torch.Tensor:
    """Room for a gradient of ``x``, laid out so that its rows begin as far from a boundary of 16 bytes as those of x.

    Contiguous where that is so, or cannot be; else with less than 16 bytes between rows.
    """
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.dim() < 2 or x.numel() == 0 or x.stride(-1) != 1:
        return out
    layouts = [part.layout for part in slices(x, out)]
    if STRIDED.value not in layouts:
        return out
    lanes = 16 // x.element_size()
    strides, size = [1], x.shape[-1]
    for axis in range(x.dim() - 2, -1, -1):
        stride = size + (x.stride(axis) - size) % lanes
        strides.insert(0, stride)
        size = stride * x.shape[axis]
    _, start = _base(x)
    room = torch.empty(start + size, dtype=x.dtype, device=x.device)
    return room.as_strided(x.shape, strides, start)
