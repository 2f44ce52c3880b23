"""``x[index]`` whose backward adds in one order on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from rollmath._autograd import first_order_only

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Rounds(NamedTuple):
    """The copies of items in an index, so that what is added in one step goes to different rows.

    Attributes:
        first: places of the first copy of each item, and the items.
        shared: the items that have a second copy.
        more: for the second copies, the third ones, ...: their places, and which of ``shared`` they are of.
    """

    first: tuple[torch.Tensor, torch.Tensor]
    shared: torch.Tensor
    more: list[tuple[torch.Tensor, torch.Tensor]]


def select(x: torch.Tensor, index: torch.Tensor, rounds: Callable[[], Rounds]) -> torch.Tensor:
    """The rows of ``x`` at ``index``; ``rounds()`` has :func:`rounds_of` the index, on its device."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return x.index_select(0, index)
    return _Select.apply(x, index, rounds)  # type: ignore[no-any-return]


def rounds_of(index: NDArray[np.int64], device: torch.device | str) -> Rounds:
    """The copies of the items of an index, on a device."""
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    copy = np.arange(len(index)) - np.repeat(starts, np.diff(starts, append=len(index)))
    places = order[np.argsort(copy, kind="stable")]
    first, *more = np.split(places, np.cumsum(np.bincount(copy, minlength=1))[:-1])
    shared = index[more[0]] if more else index[:0]

    def on(x: NDArray[np.int64]) -> torch.Tensor:
        return torch.tensor(x).to(device, non_blocking=True)

    slots = [np.searchsorted(shared, index[part]) for part in more]
    return Rounds(
        (on(first), on(index[first])), on(shared), [(on(part), on(at)) for part, at in zip(more, slots, strict=True)]
    )


def add_rows(g: torch.Tensor, index: torch.Tensor, rounds: Callable[[], Rounds], n: int) -> torch.Tensor:
    """``out[index[i]] += g[i]`` for ``i = 0, 1, ...``; sums of float16 and bfloat16 are in float32."""
    out = g.new_zeros((n, *g.shape[1:]))
    if g.device.type == "cpu" and g.dtype in {torch.float32, torch.float64}:
        return out.index_add_(0, index, g)  # in the order of the index
    return in_rounds(out, g, rounds())


def in_rounds(out: torch.Tensor, g: torch.Tensor, rounds: Rounds) -> torch.Tensor:
    """The same into zeros, a launch for each copy: the threads of a launch race, so none may add to the same row."""
    places, items = rounds.first
    out.index_add_(0, items, g.index_select(0, places))
    if rounds.more:
        sums = out.index_select(0, rounds.shared)
        sums = sums if sums.dtype == torch.float64 else sums.float()
        for places, slots in rounds.more:
            sums.index_add_(0, slots, g.index_select(0, places).to(sums.dtype))
        out.index_copy_(0, rounds.shared, sums.to(out.dtype))
    return out


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, index: torch.Tensor, rounds: Callable[[], Rounds]) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.rounds, ctx.n = rounds, len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        first_order_only("PrefixBatch")
        (index,) = ctx.saved_tensors
        return add_rows(gradients[0].contiguous(), index, ctx.rounds, ctx.n), None, None
