"""Checks of the arguments of a fused linear layer."""

from __future__ import annotations

from typing import Any

import torch

from rollmath._arrays import describe
from rollmath.vocab._args import check_floats, refuse_transforms
from rollmath.vocab._linear_plan import STEP, least


def check_factors(who: str, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Raises unless ``hidden [..., H]``, ``weight [V, H]`` and ``bias [V]`` can be multiplied."""
    for name, x, shape in (("hidden", hidden, "[..., H]"), ("weight", weight, "[V, H]"), ("bias", bias, "[V]")):
        if name == "bias" and x is None:
            continue
        device = check_floats(who, name, x, shape).device
        if device != hidden.device:
            msg = f"{who}(): {name!r} must be on {hidden.device} (= hidden.device), got {device}"
            raise ValueError(msg)
    refuse_transforms(who)
    if weight.dim() != 2 or 0 in weight.shape:
        msg = f"{who}(): 'weight' must have shape [V, H] with both at least 1, got {tuple(weight.shape)}"
        raise ValueError(msg)
    if hidden.dim() == 0 or hidden.shape[-1] != weight.shape[1]:
        turned = hidden.dim() > 0 and hidden.shape[-1] == weight.shape[0]
        fix = "; it looks like [H, V]: pass weight.T" if turned else ""
        wanted = hidden.shape[-1] if hidden.dim() else "H"
        msg = (
            f"{who}(): 'weight' must have shape [V, {wanted}] for 'hidden' {tuple(hidden.shape)}, "
            f"got {tuple(weight.shape)}{fix}"
        )
        raise ValueError(msg)
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        msg = f"{who}(): 'bias' must have shape ({weight.shape[0]},) (= weight.shape[:1]), got {tuple(bias.shape)}"
        raise ValueError(msg)


def check_dtypes(
    who: str, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, logits_dtype: Any
) -> tuple[torch.dtype, torch.dtype]:
    """What the factors are multiplied in, and what their products are rounded to."""
    device = hidden.device.type
    if torch.is_autocast_enabled(device) and hidden.dtype != torch.float64:
        factor = torch.get_autocast_dtype(device)
    else:
        factor = hidden.dtype
        for name, x in (("weight", weight), ("bias", bias)):
            if x is not None and x.dtype != factor:
                msg = (
                    f"{who}(): {name!r} must be {factor} (= hidden.dtype), got {x.dtype}; "
                    f"cast 'hidden', or call under torch.autocast"
                )
                raise TypeError(msg)
    wanted = getattr(torch, logits_dtype, logits_dtype) if isinstance(logits_dtype, str) else logits_dtype
    if wanted is None:
        return factor, factor
    possible = [factor] if factor == torch.float64 else list(dict.fromkeys([factor, torch.float32]))
    if wanted not in possible:
        names = " or ".join(repr(str(dtype).removeprefix("torch.")) for dtype in possible)
        msg = f"{who}(): 'logits_dtype' must be None, {names}, got {logits_dtype!r}"
        raise ValueError(msg)
    return factor, wanted


def check_workspace(who: str, workspace: Any, vocab: int, logit_bytes: int) -> int:
    """A number of bytes that holds one row of a chunk."""
    if isinstance(workspace, bool) or not isinstance(workspace, int):
        msg = f"{who}(): 'workspace' must be an integer, a number of bytes, got {describe(workspace)}"
        raise TypeError(msg)
    smallest = least(vocab, logit_bytes)
    if workspace < smallest:
        columns = min(STEP, vocab)
        msg = f"{who}(): 'workspace' must be at least {smallest} bytes (= one row of {columns} logits), got {workspace}"
        raise ValueError(msg)
    return workspace
