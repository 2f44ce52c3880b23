"""Ranks that share a vocabulary: what they check before they send anything, and the one all-gather."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import distributed

from rollmath._arrays import describe
from rollmath.vocab._agree import agree, device_types, place, words
from rollmath.vocab._shard import VocabShard, check_spans

T = TypeVar("T")


def check_shard(who: str, shard: Any, name: str, device: torch.device) -> None:
    """Raises unless ``shard`` is one whose group can send what lies beside the argument ``name``."""
    if not isinstance(shard, VocabShard):
        msg = f"{who}(): 'shard' must be a VocabShard or None, got {describe(shard)}"
        raise TypeError(msg)
    if place(shard.group)[0] > 1 and device.type not in (types := device_types(shard.group)):
        sent = ", ".join(types)
        msg = f"{who}(): {name!r} must be on a device of the group of 'shard' ({sent}), got {device}"
        raise ValueError(msg)


def together(
    who: str, shard: VocabShard, columns: int, prepare: Callable[[], T], same: Callable[[T], Mapping[str, Any]]
) -> T:
    """What ``prepare`` makes of the arguments, if it raises on no rank and ``same`` of it is the same on all."""
    kept: list[T] = []

    def make() -> dict[str, str]:
        kept.append(prepare())
        return {**shard.span(columns), **{f"'{name}'": words(x) for name, x in same(kept[0]).items()}}

    check_spans(who, agree(who, make, shard.group, ["span"]))
    return kept[0]


def gather(partials: torch.Tensor, group: Any) -> torch.Tensor:
    """``[S, N, P]`` of each rank as ``[ranks * S, N, P]``, in the order of ranks: the one collective."""
    ranks, _ = place(group)
    if ranks == 1:
        return partials
    found = partials.new_empty(ranks * partials.numel())
    if partials.numel():
        distributed.all_gather_into_tensor(found, partials.reshape(-1), group=group)
    return found.view(ranks * partials.shape[0], *partials.shape[1:])
