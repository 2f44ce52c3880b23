"""DTensor logits: what of them lies on this rank, and results placed as the labels are."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from rollmath._arrays import describe
from rollmath.vocab._shard import VocabShard

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor, Placement


def is_dtensor(x: Any) -> TypeGuard[DTensor]:
    """Whether ``x`` is a DTensor; imports nothing, since where DTensor was not imported none exists."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def vocabulary(who: str, logits: DTensor) -> VocabShard | None:
    """The shard of the dimension of the mesh that divides the vocabulary; None if none does."""
    number = _vocabulary_dimension(who, logits)
    return None if number is None else VocabShard.even(logits.device_mesh.get_group(number), logits.shape[-1])


def _vocabulary_dimension(who: str, logits: DTensor) -> int | None:
    from torch.distributed.tensor import Replicate, Shard  # noqa: PLC0415

    found = []
    for number, placement in enumerate(logits.placements):
        if type(placement) is Shard:
            if placement.dim % logits.dim() == logits.dim() - 1:
                found.append(number)
        elif type(placement) is not Replicate:
            fix = "; call .redistribute() first"
            msg = f"{who}(): 'logits' must be placed as Shard or Replicate, got {logits.placements}{fix}"
            raise ValueError(msg)
    if len(found) > 1:
        msg = (
            f"{who}(): 'logits' must have its last dimension sharded by one dimension of the mesh at most, got "
            f"{logits.placements}; call .redistribute() first"
        )
        raise ValueError(msg)
    return found[0] if found else None


class Local:
    """DTensor logits as plain tensors of this rank, and the way back."""

    def __init__(self, who: str, logits: DTensor, shard: Any) -> None:
        from torch.distributed.tensor import Replicate  # noqa: PLC0415

        if shard is not None:
            msg = f"{who}(): 'shard' must be None for DTensor 'logits', which know theirs, got {describe(shard)}"
            raise ValueError(msg)
        self.who, self.mesh, self.rows = who, logits.device_mesh, logits.shape[:-1]
        number = _vocabulary_dimension(who, logits)
        self.shard = vocabulary(who, logits)
        #: How what has one value a row must be placed.
        self.placements: tuple[Placement, ...] = tuple(
            Replicate() if i == number else _positive(placement, logits.dim())
            for i, placement in enumerate(logits.placements)
        )
        #: Differentiable: the gradient comes back as a DTensor, placed as ``logits``.
        self.logits: torch.Tensor = logits.to_local()
        self.wrapped = False

    def plain(self, name: str, x: Any) -> Any:
        """The rows of this rank of ``x``, which is one value a row or more: a DTensor placed as they are, or plain."""
        if not is_dtensor(x):
            return x
        placements = tuple(_positive(placement, x.dim()) for placement in x.placements)
        if x.device_mesh != self.mesh or placements != self.placements:
            msg = (
                f"{self.who}(): {name!r} must be placed as the rows of 'logits', {self.placements}, got {x.placements}"
                f"{'' if x.device_mesh == self.mesh else ' of another mesh'}; call .redistribute() first"
            )
            raise ValueError(msg)
        self.wrapped |= name == "labels"
        return x.to_local()

    def back(self, made: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Results as DTensors where the labels are one, else as they are."""
        if not self.wrapped:
            return made
        from torch.distributed.tensor import DTensor  # noqa: PLC0415

        out: dict[str, torch.Tensor] = {}
        for name, x in made.items():
            shape = torch.Size((*self.rows, *x.shape[len(self.rows) :]))
            stride = torch.empty(shape, device="meta").stride()
            out[name] = DTensor.from_local(x, self.mesh, self.placements, run_check=False, shape=shape, stride=stride)
        return out


def refuse_dtensors(who: str, where: str, fix: str, **given: Any) -> None:
    """Raises if something is a DTensor."""
    for name, x in given.items():
        if is_dtensor(x):
            msg = f"{who}(): {name!r} must be a plain tensor{where}, got a DTensor; call {fix}"
            raise TypeError(msg)


def _positive(placement: Any, dims: int) -> Any:
    """A placement whose dimension counts from the front."""
    return type(placement)(placement.dim % dims) if hasattr(placement, "dim") and placement.dim < 0 else placement
