"""The exact KL divergence by the Triton kernels, as ``Exact`` has it in plain torch."""

from __future__ import annotations

from typing import Any

import torch

from rollmath._arrays import describe
from rollmath._autograd import first_order_only
from rollmath.vocab import _torch_rows
from rollmath.vocab._backend import check_backend, implementation
from rollmath.vocab._kl_reference import Exact


class Kernels(torch.autograd.Function):
    """``apply(logits, ref_logits, temperature, reverse)`` returns ``[N]``; temperature: a number or ``[N, 1]``."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, ref: torch.Tensor, temperature: float | torch.Tensor, reverse: bool
    ) -> torch.Tensor:
        """One pass; saved are both logits (no copies) and a few numbers a row."""
        # Not before the first launch: importing triton takes a while, and it may be missing.
        from rollmath.kernels import kl  # noqa: PLC0415

        per_row = None
        if isinstance(temperature, torch.Tensor):
            per_row = temperature[:, 0].double().reciprocal().to(torch.float32)
        ctx.inverse, ctx.reverse = 1.0 if per_row is not None else 1 / float(temperature), reverse
        made = kl.forward(logits, ref, inv_temperature=ctx.inverse if per_row is None else per_row, reverse=reverse)
        ctx.names = tuple(name for name in made if name != "kl")
        ctx.save_for_backward(logits, ref, per_row, *(made[name] for name in ctx.names))
        return made["kl"]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        """The closed form, in the dtype of the logits."""
        first_order_only("rollmath.vocab")
        from rollmath.kernels import kl  # noqa: PLC0415

        logits, ref, per_row, *saved = ctx.saved_tensors
        inverse = ctx.inverse if per_row is None else per_row
        kept = dict(zip(ctx.names, saved, strict=True))
        return kl.backward(logits, ref, kept, grads[0], inv_temperature=inverse, reverse=ctx.reverse), None, None, None


def exact(who: str, backend: str, logits: torch.Tensor, ref: torch.Tensor) -> type[torch.autograd.Function]:
    """The function for these logits."""
    check_backend(who, backend, logits)
    if backend == "triton" and ref.dtype == torch.float64:
        msg = f"{who}(): backend 'triton' takes 'ref_logits' of 16 or 32 bits, got {describe(ref)}; say backend='torch'"
        raise ValueError(msg)
    # Tracing looks into the operations of torch, but not into a launch.
    if backend == "auto" and (ref.dtype == torch.float64 or torch.compiler.is_compiling()):
        backend = "torch"
    return Exact if implementation(backend, logits) is _torch_rows else Kernels
