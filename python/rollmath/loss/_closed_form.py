"""A loss whose derivatives are known when it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from rollmath._autograd import first_order_only

F = TypeVar("F", bound=Callable[..., Any])


def eager(function: F) -> F:
    """A function that ``torch.compile`` leaves alone: what it does on the host depends on values."""
    left_alone: list[Any] = []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        # The compiler takes seconds to import, and who has not imported it does not compile.
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not left_alone:
            left_alone.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return left_alone[0](*args, **kwargs)

    return cast("F", call)


def closed_form(
    who: str, value: torch.Tensor, *known: tuple[torch.Tensor, torch.Tensor] | None, scale: float = 1
) -> torch.Tensor:
    """``value`` as a function of tensors, given as pairs of the tensor and the derivative.

    A derivative is flat, or 0-d if it is the same everywhere. Derivatives are multiplied by ``scale`` on the way back,
    which costs no pass of its own; ``value`` is as it is.
    """
    pairs = [pair for pair in known if pair is not None]
    flat = [x for pair in pairs for x in pair]
    return _ClosedForm.apply(who, scale, (value,), *flat)  # type: ignore[no-any-return]


def _graph_is_kept() -> bool:
    """Whether the backward that runs was called with ``retain_graph=True``; True if torch does not say."""
    ask = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", None)
    return ask is None or bool(ask())


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, who: str, scale: float, value: tuple[torch.Tensor], *flat: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(*flat[1::2])
        ctx.who, ctx.scale, ctx.forms = who, scale, [(x.shape, x.dtype) for x in flat[::2]]
        # Not an input to torch, in its tuple, and so it may be the output, without a copy.
        return value[0]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        first_order_only(f"{ctx.who}()")
        g = gradients[0] if ctx.scale == 1 else gradients[0] * ctx.scale
        out: list[torch.Tensor | None] = [None, None, None]
        # On the host a look is free, and spares a copy as large as the batch, if no later backward needs the original.
        one = g.device.type == "cpu" and not _graph_is_kept() and g.item() == 1
        for number, (derivative, (shape, dtype)) in enumerate(zip(ctx.saved_tensors, ctx.forms, strict=True)):
            if not ctx.needs_input_grad[3 + 2 * number]:
                out += [None, None]
                continue
            if not one:
                # Rounded as it is written, in one pass.
                product = derivative.new_empty(derivative.shape, dtype=dtype)
                derivative = torch.mul(derivative, g, out=product)  # noqa: PLW2901
            x = derivative.to(dtype)
            out += [x.expand(shape) if x.dim() == 0 else x.reshape(shape), None]
        return tuple(out)
