"""The reductions as one differentiable function over a backend; first order only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from rollmath._autograd import first_order_only
from rollmath.vocab import _shard_rows, _torch_rows
from rollmath.vocab._backend import implementation
from rollmath.vocab._inputs import Inputs
from rollmath.vocab._shard import VocabShard
from rollmath.vocab._torch_merge import Stats, needed


@dataclass(frozen=True)
class Options:
    """The numbers and choices of a call."""

    outputs: tuple[str, ...]
    inv_temperature: float = 1.0
    softcap: float | None = None
    ignore_index: int | None = None
    backend: str = "auto"
    inplace: bool = False
    shard: VocabShard | None = None


def forward(logits: torch.Tensor, inputs: Inputs, options: Options) -> Stats:
    """The statistics of the rows, and what :func:`backward` needs."""
    backend = implementation(options.backend, logits)
    arguments = _arguments(backend, logits, inputs, options)
    arguments["outputs"] = options.outputs
    if options.shard is None:
        return dict(backend.forward(logits, inputs.labels, **arguments))
    return dict(_shard_rows.forward(backend, options.shard, logits, inputs.labels, **arguments))


def backward(
    logits: torch.Tensor, inputs: Inputs, options: Options, saved: Stats, grads: Stats, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The gradient for the logits."""
    backend = implementation(options.backend, logits)
    arguments = _arguments(backend, logits, inputs, options)
    rows = (inputs.labels, saved, grads)
    if options.shard is not None:
        return _shard_rows.backward(backend, options.shard, logits, *rows, out=out, **arguments)
    gradient: torch.Tensor = backend.backward(logits, *rows, out=out, **arguments)
    return gradient


def _arguments(backend: Any, logits: torch.Tensor, inputs: Inputs, options: Options) -> dict[str, Any]:
    """The keywords that all functions of a backend share."""
    inverse: float | torch.Tensor = options.inv_temperature
    if inputs.inverse is not None:
        inverse = inputs.inverse if backend is _torch_rows else inputs.inverse.to(torch.float32)
    allowed = None
    if inputs.set_ids is not None:
        allowed = (inputs.set_ids, inputs.set_offsets)
    shard = options.shard
    return {
        "inv_temperature": inverse,
        "softcap": options.softcap,
        "mask": inputs.mask,
        "ignore_index": options.ignore_index,
        "ids": inputs.ids,
        "allowed": allowed,
        "first": 0 if shard is None else shard.first,
        "total": logits.shape[-1] if shard is None else shard.total,
    }


class Reduce(torch.autograd.Function):
    """``apply(logits, inputs, options)`` returns one tensor for each of ``options.outputs``."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, inputs: Inputs, options: Options) -> tuple[torch.Tensor, ...]:
        """Saves the logits (no copy), the constants and a few numbers a row."""
        stats = forward(logits, inputs, options)
        saved = _saved(options, stats, implementation(options.backend, logits) is _torch_rows)
        ctx.options, ctx.names = options, tuple(saved)
        ctx.save_for_backward(logits, *inputs.tensors(), *saved.values())
        ctx.set_materialize_grads(False)
        if "argmax" in options.outputs:
            ctx.mark_non_differentiable(stats["argmax"])
        return tuple(stats[name] for name in options.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, None, None]:
        """The closed form, in the dtype of the logits."""
        first_order_only("rollmath.vocab")
        logits, *rest = ctx.saved_tensors
        inputs, saved = Inputs(*rest[:6]), dict(zip(ctx.names, rest[6:], strict=True))
        given = incoming(ctx.options.outputs, grads)
        if not given:
            return None, None, None
        if not ctx.options.inplace:
            return backward(logits, inputs, ctx.options, saved, given), None, None
        # Writing raises the version of the logits, so that the backward pass of anything else that saved them says so.
        out = logits.detach()
        gradient = backward(out, inputs, ctx.options, saved, given, out)
        torch.autograd.graph.increment_version(out)
        return gradient, None, None


def _saved(options: Options, stats: Stats, recomputes: bool) -> Stats:
    """What the gradient reads. Of results copies: users write masks into theirs."""
    unread = {"lse", "mean_logprob"} | ({"logprob", "gathered"} if recomputes else set())
    saved = {name: stats[name] for name in kept(options.outputs) if name not in unread}
    return {name: x.clone() if name in options.outputs else x for name, x in saved.items()}


def kept(outputs: tuple[str, ...]) -> tuple[str, ...]:
    """The statistics that the gradient is made of."""
    return ("shift", "log2_l", *needed(outputs))


def incoming(outputs: tuple[str, ...], grads: tuple[torch.Tensor | None, ...]) -> Stats:
    """The gradients that flow in, by name."""
    return {name: g for name, g in zip(outputs, grads, strict=True) if g is not None and name != "argmax"}
