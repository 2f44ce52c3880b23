"""The reductions as registered operators, for ``torch.compile``: ``rollmath::row_stats`` and its backward pass.

Inside of them everything is as it is in eager code, the checks of values included. They take tensors and numbers only,
so the vocabulary must be whole and nothing is written in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rollmath.vocab._autograd import Options, backward, forward, incoming, kept
from rollmath.vocab._chunks import dtype_of, rows_of
from rollmath.vocab._inputs import Inputs
from rollmath.vocab._values import check_values

_ROWS = (
    "Tensor logits, Tensor? labels, Tensor? inverse, Tensor? mask, Tensor? ids, Tensor? set_ids, Tensor? set_offsets"
)
_OPTIONS = "str[] outputs, float inv_temperature, float? softcap, int? ignore_index, str backend"


@torch.library.custom_op(
    "rollmath::row_stats", mutates_args=(), schema=f"({_ROWS}, {_OPTIONS}, int look, str who) -> Tensor[]"
)
def row_stats_op(  # noqa: PLR0917
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    inverse: torch.Tensor | None,
    mask: torch.Tensor | None,
    ids: torch.Tensor | None,
    set_ids: torch.Tensor | None,
    set_offsets: torch.Tensor | None,
    outputs: Sequence[str],
    inv_temperature: float,
    softcap: float | None,
    ignore_index: int | None,
    backend: str,
    look: int,
    who: str,
) -> list[torch.Tensor]:
    """The statistics that are ``kept``, in that order."""
    inputs = Inputs(labels, inverse, mask, ids, set_ids, set_offsets)
    if look:
        check_values(who, inputs, ignore_index, logits.shape[-1], look)
    options = Options(tuple(outputs), inv_temperature, softcap, ignore_index, backend)
    stats = forward(logits, inputs, options)
    return [stats[name] for name in kept(options.outputs)]


@row_stats_op.register_fake
def _(logits: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
    ids, outputs = rest[3], tuple(rest[6])
    rows, out = rows_of(logits), []
    for name in kept(outputs):
        shape = (rows, ids.shape[1]) if name == "gathered" else (rows,)
        out.append(logits.new_empty(shape, dtype=torch.int64 if name == "argmax" else dtype_of(logits)))
    return out


@torch.library.custom_op(
    "rollmath::row_stats_backward",
    mutates_args=(),
    schema=f"({_ROWS}, Tensor[] saved, Tensor?[] grads, {_OPTIONS}) -> Tensor",
)
def row_stats_backward_op(  # noqa: PLR0917
    logits: torch.Tensor,
    labels: torch.Tensor | None,
    inverse: torch.Tensor | None,
    mask: torch.Tensor | None,
    ids: torch.Tensor | None,
    set_ids: torch.Tensor | None,
    set_offsets: torch.Tensor | None,
    saved: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor | None],
    outputs: Sequence[str],
    inv_temperature: float,
    softcap: float | None,
    ignore_index: int | None,
    backend: str,
) -> torch.Tensor:
    """The gradient for the logits; ``grads`` are those of ``outputs``."""
    inputs = Inputs(labels, inverse, mask, ids, set_ids, set_offsets)
    options = Options(tuple(outputs), inv_temperature, softcap, ignore_index, backend)
    stats = dict(zip(kept(options.outputs), saved, strict=True))
    # The fake tensors promise these strides.
    out = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    return backward(logits, inputs, options, stats, incoming(options.outputs, tuple(grads)), out)


@row_stats_backward_op.register_fake
def _(logits: torch.Tensor, *rest: Any) -> torch.Tensor:  # noqa: ARG001
    return torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    *tensors, outputs, inv_temperature, softcap, ignore_index, backend, _, _ = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.outputs = tuple(outputs)
    ctx.options = (inv_temperature, softcap, ignore_index, backend)


def _gradient(ctx: Any, grads: list[torch.Tensor | None]) -> tuple[torch.Tensor | None, ...]:
    tensors, saved = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
    by_name = dict(zip(kept(ctx.outputs), grads, strict=True))
    given = [None if name == "argmax" else by_name[name] for name in ctx.outputs]
    gradient = row_stats_backward_op(*tensors, list(saved), given, list(ctx.outputs), *ctx.options)
    return gradient, *[None] * 13


row_stats_op.register_autograd(_gradient, setup_context=_setup)
