"""An output layer under LoRA adapters of peft: the products of which its logits are the sum."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def is_lora(layer: nn.Module) -> bool:
    """Whether peft wrapped a linear layer into adapters; peft is not imported."""
    return all(hasattr(layer, name) for name in ("lora_A", "lora_B", "get_base_layer", "active_adapters"))


def lora_factors(layer: Any, hidden: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """``hidden, W`` and for each active adapter ``scaling * hidden A', B``; what else there is raises.

    The effective weight ``W + scaling B A`` is never made: an adapter of rank r costs r / H of the products.
    """
    base = layer.get_base_layer()
    if layer.disable_adapters and layer.merged:
        layer.unmerge()
    factors = [hidden, base.weight]
    if layer.disable_adapters or layer.merged:
        return factors, base.bias
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        a, b = layer.lora_A[name], layer.lora_B[name]
        _refuse(layer, name, a, b)
        reduced = functional.linear(hidden.to(a.weight.dtype), a.weight)
        factors += [reduced * layer.scaling[name], b.weight]
    return factors, base.bias


def check_lora(layer: Any) -> None:
    """Raises unless the statistics of this layer can be computed; dropout is looked at when it is used."""
    base = layer.get_base_layer()
    if type(base).forward is not nn.Linear.forward or layer.fan_in_fan_out:
        msg = f"patch_lm_head(): 'model' must have LoRA on an nn.Linear, got {type(base).__name__}; merge the adapter"
        raise TypeError(msg)
    for name in layer.lora_A:
        _refuse(layer, name, layer.lora_A[name], layer.lora_B[name], dropout=False)


def _refuse(layer: Any, name: str, a: Any, b: Any, *, dropout: bool = True) -> None:
    what = None
    if name in getattr(layer, "lora_variant", {}) or getattr(layer, "use_dora", {}).get(name):
        what = "a variant of LoRA (DoRA, ...)"
    elif a.bias is not None or b.bias is not None:
        what = "a bias"
    elif dropout and layer.training and getattr(layer.lora_dropout[name], "p", 0) > 0:
        what = "dropout while it trains"
    if what is not None:
        msg = f"row_stats(): adapter {name!r} on the output layer has {what}, which is not supported here"
        raise ValueError(f"{msg}; say lora_dropout=0, or leave the output layer out of target_modules")
