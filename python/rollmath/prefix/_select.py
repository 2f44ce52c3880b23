"""``x[index]`` whose backward adds in one order on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from rollmath._autograd import first_order_only

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pairs of places in an index and the items there, of which no pair has an item twice.
Rounds: TypeAlias = list[tuple[torch.Tensor, torch.Tensor]]


def select(x: torch.Tensor, index: torch.Tensor, rounds: Callable[[], Rounds]) -> torch.Tensor:
    """The rows of ``x`` at ``index``; ``rounds()`` has :func:`rounds_of` the index, on its device."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return x.index_select(0, index)
    return _Select.apply(x, index, rounds)  # type: ignore[no-any-return]


def rounds_of(index: NDArray[np.int64], device: torch.device | str) -> Rounds:
    """The first copies of all items, the second ones, ...: what is added in a round goes to different rows."""
    if not len(index):
        return []
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    copy = np.arange(len(index)) - np.repeat(starts, np.diff(starts, append=len(index)))
    places = order[np.argsort(copy, kind="stable")]

    def on(x: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(x).to(device, non_blocking=True)

    return [(on(part), on(index[part])) for part in np.split(places, np.cumsum(np.bincount(copy))[:-1])]


def add_rows(g: torch.Tensor, index: torch.Tensor, rounds: Callable[[], Rounds], n: int) -> torch.Tensor:
    """``out[index[i]] += g[i]`` for ``i = 0, 1, ...``."""
    out = g.new_zeros((n, *g.shape[1:]))
    # In the order of the index on a CPU. Elsewhere the threads of a launch race, so none may add to the same row.
    return out.index_add_(0, index, g) if g.device.type == "cpu" else in_rounds(out, g, rounds())


def in_rounds(out: torch.Tensor, g: torch.Tensor, rounds: Rounds) -> torch.Tensor:
    """The same, one launch for each copy that an item has at most."""
    for places, items in rounds:
        out.index_add_(0, items, g.index_select(0, places))
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
