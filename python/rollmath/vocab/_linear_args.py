"""Checks of the arguments of a fused linear layer."""

from __future__ import annotations

from typing import Any

import torch

from rollmath._arrays import ArrayLike, describe
from rollmath.vocab._args import check_inverse as _check_inverse
from rollmath.vocab._args import check_temperatures
from rollmath.vocab._linear_plan import STEP, least

_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_factors(who: str, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Raises unless ``hidden [..., H]``, ``weight [V, H]`` and ``bias [V]`` can be multiplied."""
    for name, x, shape in (("hidden", hidden, "[..., H]"), ("weight", weight, "[V, H]"), ("bias", bias, "[V]")):
        if name == "bias" and x is None:
            continue
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            msg = f"{who}(): {name!r} must be a float tensor {shape}, got {describe(x)}"
            raise TypeError(msg)
        if x.device != hidden.device:
            msg = f"{who}(): {name!r} must be on {hidden.device} (= hidden.device), got {x.device}"
            raise ValueError(msg)
    if torch._C._are_functorch_transforms_active():
        msg = f"{who}(): does not run under the transforms of torch.func (vmap, grad, jvp); call it outside of them"
        raise RuntimeError(msg)
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


def check_rows(who: str, name: str, x: Any, hidden: torch.Tensor, *, axes: str = "", host: bool = False) -> None:
    """Raises unless ``x`` has one value a row of ``hidden``, or with ``axes`` one more axis, beside it."""
    rows = tuple(hidden.shape[:-1])
    if tuple(x.shape[: len(rows)]) != rows or x.dim() != len(rows) + bool(axes) or (axes and not x.shape[-1]):
        wanted = f"{rows} (= hidden.shape[:-1]){axes}"
        msg = f"{who}(): {name!r} must have shape {wanted}, got {tuple(x.shape)}"
        raise ValueError(msg)
    if x.device != hidden.device and not (host and x.device.type == "cpu"):
        msg = f"{who}(): {name!r} must be on {hidden.device} (= hidden.device), got {x.device}"
        raise ValueError(msg)


def check_tokens(who: str, name: str, x: Any, hidden: torch.Tensor, *, axes: str = "") -> torch.Tensor:
    """Token ids as contiguous int64 ``[N]``, or with ``axes`` ``[N, K]``; their values are looked at elsewhere."""
    if not isinstance(x, torch.Tensor) or x.dtype not in _INTEGERS:
        msg = f"{who}(): {name!r} must be an integer tensor, got {describe(x)}"
        raise TypeError(msg)
    check_rows(who, name, x, hidden, axes=axes)
    return (x.reshape(-1, x.shape[-1]) if axes else x.reshape(-1)).to(torch.int64).contiguous()


def check_mask(who: str, mask: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Contiguous ``bool [N]``, beside ``hidden`` or on the CPU."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        msg = f"{who}(): 'mask' must be a bool tensor, got {describe(mask)}"
        raise TypeError(msg)
    check_rows(who, "mask", mask, hidden, host=True)
    return mask.reshape(-1).contiguous()


def check_inverse(who: str, temperature: ArrayLike, hidden: torch.Tensor, *, look: bool) -> float | torch.Tensor:
    """``1 / T``: a number, or float64 ``[N]``, in which a bad temperature that nobody looked at is NaN."""
    if isinstance(temperature, torch.Tensor) and temperature.dim():
        check_rows(who, "temperature", temperature, hidden)
    number, per_row = _check_inverse(who, temperature, hidden)
    if look:
        check_temperatures(who, temperature)
    return number if per_row is None else per_row.contiguous()


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
