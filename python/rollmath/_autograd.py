"""What the closed-form gradients share."""

from __future__ import annotations

import torch


def first_order_only(what: str) -> None:
    """Raises inside a backward pass that is being recorded.

    ``torch.autograd.function.once_differentiable`` speaks up only if the incoming gradient itself is recorded, and
    otherwise returns a constant: a gradient penalty would silently lose its term.
    """
    if torch.is_grad_enabled():
        msg = f"{what} has no second derivative; take its gradient without create_graph=True"
        raise RuntimeError(msg)
