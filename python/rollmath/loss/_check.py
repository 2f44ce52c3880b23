"""Checks of the types of arguments, typed so that a checker does not take them for granted."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rollmath._arrays import describe
from rollmath.loss._objectives import TokenLoss

#: Metrics that every loss has, and its terms.
RESERVED = frozenset({
    "loss", "policy_loss", "kl_loss", "entropy_loss",
    "entropy", "signal", "log_ratio", "approx_kl", "ratio", "ratio_max",
})  # fmt: skip


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
    check_counts(who, name, tokens.counts, like)
    return tokens


def check_counts(who: str, name: str, counts: object, like: torch.Tensor) -> None:
    """Raises unless named sums are 0-d tensors where the tokens are, under names of their own."""
    if not isinstance(counts, Mapping):
        msg = f"{who}(): {name!r} must give its counts as a mapping from names to 0-d tensors, got {describe(counts)}"
        raise TypeError(msg)
    for key, x in counts.items():
        if not isinstance(x, torch.Tensor) or x.dim() or x.device != like.device:
            got = describe(x) + (f" on {x.device}" if isinstance(x, torch.Tensor) else "")
            msg = f"{who}(): {name!r} must give the count {key!r} as a 0-d tensor on {like.device}, such as "
            raise TypeError(msg + f"tokens.total(...), got {got}")
        if key in RESERVED:
            msg = f"{who}(): {name!r} must not name a count {key!r}: the loss has a metric of this name already"
            raise ValueError(msg)
