"""The reductions of a vocabulary that is spread over ranks: partial statistics, one all-gather, a local gradient."""

from __future__ import annotations

from typing import Any

import torch

from rollmath.vocab._chunks import dtype_of, rows_of
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._together import gather
from rollmath.vocab._torch_merge import PARTIALS

# More than any token: a rank without tokens has no part in the argmax.
_NOWHERE = 1 << 24


def forward(backend: Any, shard: VocabShard, logits: torch.Tensor, labels: Any, **arguments: Any) -> Any:
    """As the ``forward`` of a backend, over the columns of all ranks: the same bits on all of them."""
    ids = arguments["ids"]
    tokens = shard.local(logits.shape[-1])
    parts = backend.partials(logits[..., :tokens], labels, **arguments) if tokens else _nothing(logits, ids)
    same = {name: arguments[name] for name in ("outputs", "total", "mask", "ignore_index", "ids")}
    return backend.merge(gather(parts[None], shard.group), labels, **same)


def backward(
    backend: Any, shard: VocabShard, logits: torch.Tensor, *rows: Any, out: torch.Tensor | None, **arguments: Any
) -> torch.Tensor:
    """As the ``backward`` of a backend; padding gets 0."""
    if out is None:
        out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    tokens = shard.local(logits.shape[-1])
    if tokens:
        backend.backward(logits[..., :tokens], *rows, out=out[..., :tokens], **arguments)
    out[..., tokens:].zero_()
    return out


def _nothing(logits: torch.Tensor, ids: torch.Tensor | None) -> torch.Tensor:
    """The partial statistics of a rank without tokens: the neutral element of merging."""
    neutral = {"shift": -torch.inf, "top": -torch.inf, "label": -torch.inf, "argmax": _NOWHERE}
    row = [neutral.get(name, 0) for name in PARTIALS] + [-torch.inf] * (0 if ids is None else ids.shape[1])
    # One number at a time, because a tensor made from a list waits for the device that it is copied to.
    out = torch.zeros((rows_of(logits), len(row)), dtype=dtype_of(logits), device=logits.device)
    for column, value in enumerate(row):
        if value:
            out[:, column].fill_(value)
    return out
