"""Allowed sets of tokens in plain torch: the sets of a chunk as one padded matrix of columns."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Columns:
    """Which columns of the logits the columns of a matrix are: all of them, or those of a set for each row.

    ``index`` is None or int64 ``[n, L]``, ascending in each row and ``width`` where nothing is left; ``dead`` marks
    what is no member: padding, a repeated id, one outside of the logits.
    """

    width: int
    first: int
    index: torch.Tensor | None = None
    dead: torch.Tensor | None = None

    def pick(self, x: torch.Tensor) -> torch.Tensor:
        """The logits of these columns, -inf where nothing is left."""
        if self.index is None or self.dead is None:
            return x
        if not self.width:
            return x.new_full(self.index.shape, -torch.inf)
        return x.gather(1, self.index.clamp(max=self.width - 1)).masked_fill_(self.dead, -torch.inf)

    def find(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the tokens ``ids`` (``[n, K]``, global) are: a column each (0 if nowhere), and whether it is there."""
        local = ids - self.first
        there = (local >= 0) & (local < self.width)
        if self.index is None or self.dead is None:
            return local.where(there, 0), there
        at = torch.searchsorted(self.index, local.contiguous()).clamp_(max=self.index.shape[1] - 1)
        there &= (self.index.gather(1, at) == local) & ~self.dead.gather(1, at)
        return at.where(there, 0), there

    def count(self) -> torch.Tensor | int:
        """How many columns there are."""
        return self.width if self.dead is None else (~self.dead).sum(1)

    def token(self, column: torch.Tensor) -> torch.Tensor:
        """The global id of a column of each row."""
        if self.index is not None:
            column = self.index.gather(1, column[:, None])[:, 0].clamp(max=max(self.width - 1, 0))
        return column + self.first

    def scatter(self, values: torch.Tensor, out: torch.Tensor) -> None:
        """``out`` becomes ``values`` in these columns and 0 elsewhere."""
        if self.index is None or self.dead is None:
            out.copy_(values)
            return
        out.zero_()
        if self.width:
            values = values.masked_fill(self.dead, 0).to(out.dtype)
            out.scatter_add_(1, self.index.clamp(max=self.width - 1), values)


class Sets:
    """CSR sets ``(ids, offsets)`` of all rows. How long they are is read on the host, which waits for a device."""

    def __init__(self, allowed: tuple[torch.Tensor, torch.Tensor] | None, width: int, first: int, total: int) -> None:
        self.width, self.first, self.total = width, first, total
        self.ids = None if allowed is None else allowed[0]
        self.offsets = None if allowed is None else allowed[1].cpu()

    def columns(self, start: int, stop: int) -> Columns:
        """The columns of some rows."""
        if self.ids is None:
            return Columns(self.width, self.first)
        local = self._padded(start, stop) - self.first
        outside = (local < 0) | (local >= self.width)
        local = local.masked_fill_(outside, self.width).sort(1).values
        twice = (local[:, 1:] == local[:, :-1]) & (local[:, 1:] < self.width)
        if twice.any():
            local[:, 1:].masked_fill_(twice, self.width)
            local = local.sort(1).values
        most = max(1, int((local < self.width).sum(1).max()))
        local = local[:, :most].contiguous()
        return Columns(self.width, self.first, local, local == self.width)

    def sizes(self, start: int, stop: int) -> torch.Tensor | int:
        """How many tokens of the whole vocabulary some rows may choose from."""
        if self.ids is None:
            return self.total
        ids = self._padded(start, stop).sort(1).values
        inside = (ids >= 0) & (ids < self.total)
        inside[:, 1:] &= ids[:, 1:] != ids[:, :-1]
        return inside.sum(1)

    def _padded(self, start: int, stop: int) -> torch.Tensor:
        """The ids of some rows, int64 ``[n, L]`` with L at least 1, and -1 beyond the end of each set."""
        assert self.ids is not None
        assert self.offsets is not None
        bounds = self.offsets[start : stop + 1]
        lengths = bounds[1:] - bounds[:-1]
        longest = max(1, int(lengths.max()))
        there = (torch.arange(longest) < lengths[:, None]).to(self.ids.device)
        out = torch.full(there.shape, -1, dtype=torch.int64, device=self.ids.device)
        return out.masked_scatter_(there, self.ids[int(bounds[0]) : int(bounds[-1])].to(torch.int64))
