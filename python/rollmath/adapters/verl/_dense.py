"""verl's dense ``[B, T]`` tensors: masks read once, results written once.

A tensor that verl gets back is dense, and a page of fresh memory costs more than the arithmetic on it. So an int64
mask is read once and kept as one length a row where it has no gaps, and results are NumPy buffers seen as tensors:
NumPy asks the system for large pages, and the allocator of torch does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rollmath._arrays import host, host_only
from rollmath.ops import expand

_BLOCK = 64


@dataclass(frozen=True)
class Trained:
    """The trained tokens of padded rows ``[B, T]``: lengths alone if every row is a run that begins at column 0.

    Attributes:
        shape: ``(B, T)``.
        counts: trained tokens of each row, int64 ``[B]``.
        mask: bytes ``[B, T]``, nonzero is trained; None if ``counts`` say it all.
    """

    shape: tuple[int, int]
    counts: NDArray[np.int64]
    mask: NDArray[np.bool_] | None

    @classmethod
    def of(cls, who: str, mask: Any) -> Trained:
        """Of verl's ``response_mask``, which holds 0 and 1 in any dtype.

        Raises:
            TypeError: no tensor of rank 2.
            ValueError: not on the CPU.
        """
        if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
            what = f"a {mask.ndim}-D tensor" if isinstance(mask, torch.Tensor) else type(mask).__name__
            msg = f"{who}(): 'response_mask' must be a tensor [B, T], got {what}"
            raise TypeError(msg)
        host_only(who, "response_mask", mask)
        rows, width = int(mask.shape[0]), int(mask.shape[1])
        counts = _prefixes(mask, rows, width)
        if counts is not None:
            return cls((rows, width), counts, None)
        found = np.empty((rows, width), np.bool_)
        torch.ne(mask, 0, out=torch.from_numpy(found))
        total = mask.sum(-1, dtype=None if mask.dtype.is_floating_point else torch.int64)
        return cls((rows, width), total.numpy().astype(np.int64), found)

    def like(self) -> dict[str, Any]:
        """``lengths=`` or ``mask=`` for a function on tokens."""
        return {"lengths": self.counts} if self.mask is None else {"mask": self.mask}

    def fresh(self, dtype: Any = np.float32) -> NDArray[Any]:
        """Memory for a result."""
        return np.empty(self.shape, dtype)

    def expand(self, x: NDArray[Any]) -> NDArray[Any]:
        """One number a row, at its trained tokens; 0 elsewhere."""
        out = self.fresh(x.dtype)
        expand(x, out=out, **self.like())
        return out


def _prefixes(mask: torch.Tensor, rows: int, width: int) -> NDArray[np.int64] | None:
    """The lengths, if each row is ones and then zeros: by the sums of blocks, which read the mask once."""
    blocks = width // _BLOCK
    cut = blocks * _BLOCK
    counts = np.zeros(rows, np.int64)
    if blocks:
        # A bool or a byte would add up in its own type.
        kind = mask.dtype if mask.dtype.is_floating_point else torch.int64
        sums = mask[:, :cut].view(rows, blocks, _BLOCK).sum(-1, dtype=kind).numpy()
        full = (sums == _BLOCK).sum(axis=1)
        partial = np.where(full < blocks, sums[np.arange(rows), np.minimum(full, blocks - 1)], 0)
        counts = (full * _BLOCK + partial).astype(np.int64)
        if not np.array_equal(sums.sum(axis=1), counts):
            return None
        # The block in which a row ends: its ones come first.
        at = np.minimum(full, blocks - 1)[:, None] * _BLOCK + np.arange(_BLOCK)
        ends = torch.gather(mask, 1, torch.from_numpy(at)).numpy() != 0
        if not np.array_equal(ends, at < counts[:, None]):
            return None
    if cut < width:
        tail = mask[:, cut:].numpy() != 0
        longer = tail.sum(axis=1)
        if not np.array_equal(tail, np.arange(width - cut) < longer[:, None]) or (counts[longer > 0] < cut).any():
            return None
        counts = counts + longer
    return counts


def tokens(who: str, name: str, x: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """A tensor of verl with one number a token, as NumPy.

    Raises:
        TypeError: no tensor.
        ValueError: another shape than the mask's; not on the CPU.
    """
    if not isinstance(x, torch.Tensor):
        msg = f"{who}(): {name!r} must be a tensor [B, T], got {type(x).__name__}"
        raise TypeError(msg)
    host_only(who, name, x)
    if tuple(x.shape) != shape:
        msg = f"{who}(): {name!r} must have the shape of 'response_mask', {shape}, got {tuple(x.shape)}"
        raise ValueError(msg)
    return host(who, name, x.detach())[0]


def scores(who: str, token_level_rewards: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """The reward of each row as verl takes it: the sum over all columns, in float32 or float64."""
    tokens(who, "token_level_rewards", token_level_rewards, shape)
    return host(who, "token_level_rewards", token_level_rewards.detach().sum(dim=-1))[0]


def outcomes(rewards: NDArray[Any], trained: Trained) -> NDArray[Any] | None:
    """The reward of each row if nothing but the last trained token has one, which is then not read token by token."""
    if trained.mask is not None or not rewards.size or rewards.dtype != np.float32 or not rewards.flags.c_contiguous:
        return None
    last = rewards[np.arange(len(rewards)), np.maximum(trained.counts - 1, 0)]
    last = np.where(trained.counts > 0, last, np.float32(0))
    # By their bits: integers are counted many times as fast as floats.
    return last if np.count_nonzero(rewards.view(np.int32)) == np.count_nonzero(last.view(np.int32)) else None
