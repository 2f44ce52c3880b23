"""Checks of the arguments of the vocabulary reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from rollmath._arrays import ArrayLike, describe
from rollmath._arrays import number as as_float
from rollmath._checks import real, whole
from rollmath.vocab._chunks import rows_of

_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_logits(who: str, logits: torch.Tensor, least: int = 1) -> None:
    """Raises unless ``logits`` is a float tensor ``[..., V]`` with ``V`` at least 1, or 0 for a rank without tokens."""
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        msg = f"{who}(): 'logits' must be a float tensor [..., V], got {describe(logits)}"
        raise TypeError(msg)
    if torch._C._are_functorch_transforms_active():
        msg = f"{who}(): does not run under the transforms of torch.func (vmap, grad, jvp); call it outside of them"
        raise RuntimeError(msg)
    if logits.dim() == 0 or logits.shape[-1] < least:
        msg = f"{who}(): 'logits' must have shape [..., V] with V of at least {least}, got {tuple(logits.shape)}"
        raise ValueError(msg)


def check_labels(who: str, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The labels as int64 ``[N]``; their values are looked at by :func:`check_values`."""
    if not isinstance(labels, torch.Tensor) or labels.dtype not in _INTEGERS:
        msg = f"{who}(): 'labels' must be an integer tensor, got {describe(labels)}"
        raise TypeError(msg)
    _check_place(who, "labels", labels, logits)
    return labels.reshape(-1).to(torch.int64).contiguous()


def check_mask(who: str, mask: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The mask as bool ``[N]``."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        msg = f"{who}(): 'mask' must be a bool tensor, True where a row counts, got {describe(mask)}"
        raise TypeError(msg)
    _check_place(who, "mask", mask, logits)
    return mask.reshape(-1).contiguous()


def check_gathered(who: str, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Some tokens of each row as int64 ``[N, K]``; their values are looked at by :func:`check_values`."""
    if not isinstance(ids, torch.Tensor) or ids.dtype not in _INTEGERS:
        msg = f"{who}(): 'ids' must be an integer tensor [..., K], got {describe(ids)}"
        raise TypeError(msg)
    rows = tuple(logits.shape[:-1])
    if ids.dim() != logits.dim() or tuple(ids.shape[:-1]) != rows or not ids.shape[-1]:
        wanted = f"{rows} (= logits.shape[:-1]) and then K of at least 1"
        msg = f"{who}(): 'ids' must have shape {wanted}, got {tuple(ids.shape)}"
        raise ValueError(msg)
    _check_device(who, "ids", ids, logits)
    return ids.reshape(-1, ids.shape[-1]).to(torch.int64).contiguous()


def check_ids(who: str, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Some distinct tokens of each row as int64 ``[N, k]``; on the CPU their values are checked."""
    if not isinstance(ids, torch.Tensor) or ids.dtype not in _INTEGERS:
        msg = f"{who}(): 'ids' must be an integer tensor [..., k], got {describe(ids)}"
        raise TypeError(msg)
    rows, vocab = tuple(logits.shape[:-1]), logits.shape[-1]
    if ids.dim() != logits.dim() or tuple(ids.shape[:-1]) != rows or not 1 <= ids.shape[-1] <= vocab:
        wanted = f"{rows} (= logits.shape[:-1]) and then k from 1 to {vocab} (= V)"
        msg = f"{who}(): 'ids' must have shape {wanted}, got {tuple(ids.shape)}"
        raise ValueError(msg)
    _check_device(who, "ids", ids, logits)
    flat = ids.reshape(-1, ids.shape[-1]).to(torch.int64)
    if flat.device.type == "cpu" and flat.numel():
        bad = (flat < 0) | (flat >= vocab)
        if bad.any():
            at = int(bad.any(1).nonzero()[0, 0])
            msg = f"{who}(): 'ids' must be in [0, {vocab}) (= V), got {int(flat[at][bad[at]][0])} in flat row {at}"
            raise ValueError(msg)
        ordered = flat.sort(1).values
        twice = ordered[:, 1:] == ordered[:, :-1]
        if twice.any():
            at, column = (int(i) for i in twice.nonzero()[0])
            msg = f"{who}(): 'ids' must be distinct in each row, got {int(ordered[at, column])} twice in flat row {at}"
            raise ValueError(msg)
    return flat


def check_temperature(who: str, temperature: ArrayLike, logits: torch.Tensor) -> float | torch.Tensor:
    """A positive number, or a column ``[N, 1]`` of them in the dtype of the arithmetic."""
    given = _temperature(who, temperature, logits)
    if not isinstance(given, torch.Tensor):
        return given
    column = given.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    good = (column > 0) & column.isfinite()
    if column.device.type == "cpu" and not good.all():
        raise ValueError(_bad_temperature(who, column, good))
    return torch.where(good, column, torch.nan)[:, None]


def check_inverse(who: str, temperature: ArrayLike, logits: torch.Tensor) -> tuple[float, torch.Tensor | None]:
    """``1 / T``: a number and None, or 1 and float64 ``[N]``, NaN where it is not positive and finite."""
    given = _temperature(who, temperature, logits)
    if not isinstance(given, torch.Tensor):
        return 1 / given, None
    wide = given.to(torch.float64)
    return 1.0, torch.where((wide > 0) & wide.isfinite(), wide, torch.nan).reciprocal()


def check_temperatures(who: str, temperature: ArrayLike) -> None:
    """Looks at the values of a tensor, which waits for its device."""
    if isinstance(temperature, torch.Tensor):
        good = (temperature > 0) & temperature.isfinite()
        if not good.all():
            raise ValueError(_bad_temperature(who, temperature, good))


def _bad_temperature(who: str, temperature: torch.Tensor, good: torch.Tensor) -> str:
    at = int((~good).reshape(-1).nonzero()[0, 0])
    place = f" at flat index {at}" if temperature.dim() else ""
    return f"{who}(): 'temperature' must be positive and finite, got {float(temperature.reshape(-1)[at])}{place}"


def _temperature(who: str, temperature: ArrayLike, logits: torch.Tensor) -> float | torch.Tensor:
    """A number, or a tensor ``[N]`` whose values nobody looked at."""
    if isinstance(temperature, torch.Tensor):
        if temperature.requires_grad:
            msg = f"{who}(): 'temperature' requires grad, but no gradient flows to it; call .detach()"
            raise ValueError(msg)
        if temperature.dtype == torch.bool or temperature.is_complex():
            what = describe(temperature)
            msg = f"{who}(): 'temperature' must be a number or a tensor with one number a row, got {what}"
            raise TypeError(msg)
        if temperature.dim():
            _check_place(who, "temperature", temperature, logits)
            return temperature.reshape(-1)
        if temperature.device.type != "cpu" or torch.compiler.is_compiling():
            # To read the number would wait for the device.
            return temperature.to(logits.device).expand(rows_of(logits))
    number = temperature.item() if isinstance(temperature, (torch.Tensor, np.generic)) else temperature
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        msg = f"{who}(): 'temperature' must be a number or a tensor with one number a row, got {describe(temperature)}"
        raise TypeError(msg)
    number = as_float(who, "temperature", number)
    if not (math.isfinite(number) and number > 0):
        msg = f"{who}(): 'temperature' must be positive and finite, got {number}"
        raise ValueError(msg)
    return number


def _check_place(who: str, name: str, x: torch.Tensor, logits: torch.Tensor) -> None:
    rows = tuple(logits.shape[:-1])
    if tuple(x.shape) != rows:
        msg = f"{who}(): {name!r} must have shape {rows} (= logits.shape[:-1]), got {tuple(x.shape)}"
        raise ValueError(msg)
    _check_device(who, name, x, logits)


def _check_device(who: str, name: str, x: torch.Tensor, logits: torch.Tensor) -> None:
    if x.device != logits.device:
        msg = f"{who}(): {name!r} must be on {logits.device} (= logits.device), got {x.device}"
        raise ValueError(msg)


def check_softcap(who: str, softcap: float | None) -> float | None:
    """A positive number or None."""
    return None if softcap is None else real(who, "softcap", softcap, above=0)


def check_ignore_index(who: str, ignore_index: int | None) -> int | None:
    """An integer or None."""
    return None if ignore_index is None else whole(who, "ignore_index", ignore_index, least=-(2**63))


def check_outputs(
    who: str, outputs: Sequence[str], names: tuple[str, ...], labels: object = None, ids: object = None
) -> tuple[str, ...]:
    """The asked-for names, in the order of ``names``; raises where what they are read from is missing."""
    listed = ", ".join(map(repr, names))
    if isinstance(outputs, str) or not outputs or any(name not in names for name in outputs):
        msg = f"{who}(): 'outputs' must be a tuple of one or more of {listed}, got {outputs!r}"
        raise ValueError(msg)
    wanted = tuple(name for name in names if name in outputs)
    for name, source, x in (("logprob", "labels", labels), ("gathered", "ids", ids)):
        if name in wanted and x is None:
            others = tuple(other for other in wanted if other != name)
            msg = f"{who}(): {source!r} is needed for the output {name!r}"
            raise ValueError(f"{msg}; without {source} say outputs={others!r}" if others else msg)
    if ids is not None and "gathered" not in wanted:
        msg = f"{who}(): 'ids' are read for the output 'gathered', which 'outputs' does not have; got {outputs!r}"
        raise ValueError(msg)
    return wanted
