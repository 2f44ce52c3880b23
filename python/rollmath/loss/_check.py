"""Checks of the types of arguments, typed so that a checker does not take them for granted."""

from __future__ import annotations

import torch

from rollmath._arrays import describe
from rollmath.loss._objectives import TokenLoss


def require(who: str, name: str, x: object, kind: type, wanted: str) -> None:
    """Raises TypeError unless ``x`` is an instance (and no class) of ``kind``."""
    if isinstance(x, type) or not isinstance(x, kind):
        got = f"the class {x.__name__}" if isinstance(x, type) else describe(x)
        msg = f"{who}(): {name!r} must be {wanted}, got {got}"
        raise TypeError(msg)


def check_token_loss(who: str, tokens: object, like: torch.Tensor, name: str = "objective") -> TokenLoss:
    """Raises unless an objective returned one number a token: others would broadcast in silence."""
    if not isinstance(tokens, TokenLoss):
        msg = f"{who}(): {name!r} must return a TokenLoss from its token_loss, got {describe(tokens)}"
        raise TypeError(msg)
    for field in ("loss", "gradient"):
        value = getattr(tokens, field)
        if not isinstance(value, torch.Tensor) or value.shape != like.shape:
            got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            msg = f"{who}(): {name!r} must give {field!r} of shape {tuple(like.shape)} (= trained tokens), got {got}"
            raise ValueError(msg)
    return tokens
