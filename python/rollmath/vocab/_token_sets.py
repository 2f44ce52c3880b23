"""Sets of tokens, one for each row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rollmath._arrays import describe
from rollmath.vocab._values import check_sets


@dataclass(frozen=True, eq=False, repr=False)
class TokenSets:
    """The tokens that each row may choose from, as top-p sampling or a grammar leaves them.

    Row i has the tokens ``ids[offsets[i]:offsets[i + 1]]``, distinct, in any order. Rows are counted flat, as
    ``logits.reshape(-1, V)`` has them.

    Args:
        ids: int32 or int64 tensor ``[total]``: the sets one after the other.
        offsets: int32 or int64 tensor ``[N + 1]`` on the same device, from 0 to ``total``.

    Raises:
        TypeError: no integer tensors of one axis.
        ValueError: other devices, and on the CPU: offsets that do not rise from 0 to ``total``, tokens below 0 or twice
            in a set. On other devices the values are not checked; wrong offsets give wrong sets, and nothing is read
            outside of ``ids``.

    >>> sets = TokenSets.of_lists([[0, 2], [1]])
    >>> sets
    TokenSets(2 rows, 3 tokens)
    >>> TokenSets.of_mask(torch.tensor([[True, False, True], [False, True, False]])).ids
    tensor([0, 2, 1])
    """

    ids: torch.Tensor
    offsets: torch.Tensor

    def __post_init__(self) -> None:
        for name, x in (("ids", self.ids), ("offsets", self.offsets)):
            if not isinstance(x, torch.Tensor) or x.dtype not in {torch.int32, torch.int64} or x.dim() != 1:
                msg = f"TokenSets(): {name!r} must be a 1-D int32 or int64 tensor, got {describe(x)}"
                raise TypeError(msg)
        if self.offsets.device != self.ids.device:
            msg = f"TokenSets(): 'offsets' must be on {self.ids.device} (= ids.device), got {self.offsets.device}"
            raise ValueError(msg)
        if not self.offsets.numel():
            msg = "TokenSets(): 'offsets' must have length N + 1, which is at least 1, got 0"
            raise ValueError(msg)
        offsets = self.offsets.to(torch.int64)
        if self.ids.device.type == "cpu":
            check_sets("TokenSets", self.ids, offsets, None)
        else:
            # Whatever they hold, kernels read inside of the ids.
            offsets = offsets.clamp(0, self.ids.numel()).cummax(0).values
        object.__setattr__(self, "ids", self.ids.contiguous())
        object.__setattr__(self, "offsets", offsets.contiguous())

    @classmethod
    def of_mask(cls, mask: torch.Tensor) -> TokenSets:
        """The sets of a bool tensor ``[..., V]``, True where a token is allowed; waits for a device."""
        if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool or mask.dim() == 0:
            msg = f"TokenSets.of_mask(): 'mask' must be a bool tensor [..., V], got {describe(mask)}"
            raise TypeError(msg)
        flat = mask.reshape(-1, mask.shape[-1]) if mask.shape[-1] else mask.new_zeros((mask.shape[:-1].numel(), 0))
        return cls(flat.nonzero()[:, 1], _offsets(flat.sum(1)))

    @classmethod
    def of_lists(cls, lists: Sequence[Iterable[Any]], *, device: torch.device | str | None = None) -> TokenSets:
        """The sets of a list of lists of token ids, one for each row."""
        rows = []
        for i, tokens in enumerate(lists):
            if not isinstance(tokens, Iterable):
                msg = f"TokenSets.of_lists(): 'lists' must hold a list for each row, but row {i} is {describe(tokens)}"
                raise TypeError(msg)
            rows.append(list(tokens))
            wrong = next((t for t in rows[-1] if isinstance(t, bool) or not hasattr(t, "__index__")), None)
            if wrong is not None:
                msg = f"TokenSets.of_lists(): row {i} must hold whole numbers, got {describe(wrong)}"
                raise TypeError(msg)
        ids = torch.tensor([int(t) for tokens in rows for t in tokens], dtype=torch.int64)
        sets = cls(ids, _offsets(torch.tensor([len(tokens) for tokens in rows], dtype=torch.int64)))
        return sets if device is None else sets.to(device)

    def to(self, device: torch.device | str) -> TokenSets:
        """The same sets on another device."""
        return TokenSets(self.ids.to(device), self.offsets.to(device))

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    def __repr__(self) -> str:
        return f"TokenSets({len(self)} rows, {self.ids.numel()} tokens)"


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
