"""Weights of which each rank has some rows: DTensors, and the sum over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed

from rollmath.vocab._agree import place
from rollmath.vocab._dtensor import is_dtensor
from rollmath.vocab._shard import VocabShard


def local_factors(
    who: str, factors: Sequence[torch.Tensor], bias: torch.Tensor | None, shard: VocabShard | None
) -> tuple[list[torch.Tensor], torch.Tensor | None, VocabShard | None]:
    """Factors as plain tensors; the gradients of those that were DTensors come back placed as they are."""
    hidden: Any
    weight: Any
    hidden, weight, *more = factors
    if not is_dtensor(weight):
        for name, x in (("hidden", hidden), ("bias", bias)):
            if is_dtensor(x):
                msg = f"{who}(): {name!r} must be a plain tensor beside a plain 'weight', got a DTensor"
                raise TypeError(msg)
        return [hidden, weight, *more], bias, shard
    from torch.distributed.tensor import DTensor, Replicate, Shard  # noqa: PLC0415

    if shard is not None:
        msg = f"{who}(): 'shard' must be None for a 'weight' that is a DTensor, which says it by itself"
        raise ValueError(msg)
    mesh = weight.device_mesh
    sharded = [number for number, placement in enumerate(weight.placements) if placement == Shard(0)]
    if len(sharded) > 1 or any(p != Shard(0) and p != Replicate() for p in weight.placements):
        msg = (
            f"{who}(): 'weight' must be placed as Shard(0) on one dimension of the mesh and Replicate() on the others, "
            f"got {weight.placements}"
        )
        raise ValueError(msg)
    everywhere = (Replicate(),) * mesh.ndim
    # Under fully_shard a weight is sharded too, while each rank has hidden states of its own: what is meant must be
    # said by a replicated `hidden`.
    if not is_dtensor(hidden) or hidden.device_mesh != mesh or hidden.placements != everywhere:
        got = f"placed as {hidden.placements}" if isinstance(hidden, DTensor) else "a plain tensor"
        msg = (
            f"{who}(): 'hidden' must be a DTensor placed as {everywhere} on the mesh of 'weight', got {got}; under "
            f"fully_shard call the module itself, which gathers the weight"
        )
        raise TypeError(msg)
    if bias is not None:
        if not isinstance(bias, DTensor) or bias.device_mesh != mesh or bias.placements != weight.placements:
            msg = f"{who}(): 'bias' must be a DTensor placed as 'weight', {weight.placements}"
            raise TypeError(msg)
        bias = bias.to_local()
    if more:
        msg = f"{who}(): 'weight' with an adapter must be a plain tensor, got a DTensor"
        raise TypeError(msg)
    if sharded:
        shard = VocabShard.even(mesh.get_group(sharded[0]), weight.shape[0])
    return [hidden.to_local(), weight.to_local()], bias, shard


def add_over_ranks(x: torch.Tensor, group: Any) -> None:
    """The sum over the ranks, in place."""
    if place(group)[0] > 1:
        distributed.all_reduce(x, group=group)
