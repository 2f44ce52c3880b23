"""Checks of the arguments of the vocabulary reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rollmath._arrays import ArrayLike, describe
from rollmath._arrays import number as as_float
from rollmath._checks import real, whole
from rollmath.vocab._chunks import rows_of

_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}

# Temperatures and soft-caps: so far from the ends of float32 that neither they nor their inverses get there.
LEAST, MOST = 2.0**-100, 2.0**100
_RANGE = "1e-30 to 1e30"


def check_logits(who: str, logits: torch.Tensor, least: int = 1) -> None:
    """Raises unless ``logits`` is a float tensor ``[..., V]`` with ``V`` at least 1, or 0 for a rank without tokens."""
    check_floats(who, "logits", logits, "[..., V]")
    refuse_transforms(who)
    if logits.dim() == 0 or logits.shape[-1] < least:
        msg = f"{who}(): 'logits' must have shape [..., V] with V of at least {least}, got {tuple(logits.shape)}"
        raise ValueError(msg)


def refuse_transforms(who: str) -> None:
    """Raises under those of ``torch.func``, which would go through the custom gradients in their own ways."""
    if torch._C._are_functorch_transforms_active():
        msg = f"{who}(): does not run under the transforms of torch.func (vmap, grad, jvp); call it outside of them"
        raise RuntimeError(msg)


def check_floats(who: str, name: str, x: Any, shape: str = "") -> torch.Tensor:
    """``x``; raises unless it is a dense tensor of floats of 16 bits or more."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        msg = f"{who}(): {name!r} must be a float tensor{shape and ' '}{shape}, got {describe(x)}"
        raise TypeError(msg)
    if x.is_nested or x.layout != torch.strided:
        msg = f"{who}(): {name!r} must be a dense tensor, got a {'nested' if x.is_nested else 'sparse'} one"
        raise TypeError(msg)
    if x.dtype not in _FLOATS:
        msg = f"{who}(): {name!r} must have 16, 32 or 64 bits a number, got {describe(x)}"
        raise TypeError(msg)
    return x


def check_labels(who: str, labels: Any, beside: torch.Tensor, of: str = "logits") -> torch.Tensor:
    """The labels as int64 ``[N]``; their values are looked at by :func:`check_values`.

    Here and below, rows are those of ``beside``, the argument ``of``, whose last axis they do not have.
    """
    if not isinstance(labels, torch.Tensor) or labels.dtype not in _INTEGERS:
        msg = f"{who}(): 'labels' must be an integer tensor, got {describe(labels)}"
        raise TypeError(msg)
    _check_place(who, "labels", labels, beside, of)
    return labels.reshape(-1).to(torch.int64).contiguous()


def check_mask(
    who: str, mask: Any, beside: torch.Tensor, of: str = "logits", *, anywhere: bool = False
) -> torch.Tensor:
    """The mask as bool ``[N]``, on the device of the rows or, with ``anywhere``, on the CPU."""
    if not isinstance(mask, torch.Tensor) or mask.dtype != torch.bool:
        msg = f"{who}(): 'mask' must be a bool tensor, True where a row counts, got {describe(mask)}"
        raise TypeError(msg)
    _check_place(who, "mask", mask, beside, of, anywhere=anywhere)
    return mask.reshape(-1).contiguous()


def check_gathered(who: str, ids: Any, beside: torch.Tensor, of: str = "logits") -> torch.Tensor:
    """Some tokens of each row as int64 ``[N, K]``; their values are looked at by :func:`check_values`."""
    if not isinstance(ids, torch.Tensor) or ids.dtype not in _INTEGERS:
        msg = f"{who}(): 'ids' must be an integer tensor [..., K], got {describe(ids)}"
        raise TypeError(msg)
    rows = tuple(beside.shape[:-1])
    if ids.dim() != beside.dim() or tuple(ids.shape[:-1]) != rows or not ids.shape[-1]:
        wanted = f"{rows} (= {of}.shape[:-1]) and then K of at least 1"
        msg = f"{who}(): 'ids' must have shape {wanted}, got {tuple(ids.shape)}"
        raise ValueError(msg)
    _check_device(who, "ids", ids, beside, of)
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
    _check_device(who, "ids", ids, logits, "logits")
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
    given = _temperature(who, temperature, logits, "logits")
    if not isinstance(given, torch.Tensor):
        return given
    column = given.to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    if column.device.type == "cpu":
        check_temperatures(who, column)
    return torch.where(_good(column), column, torch.nan)[:, None]


def check_inverse(
    who: str, temperature: ArrayLike, beside: torch.Tensor, of: str = "logits"
) -> tuple[float, torch.Tensor | None]:
    """``1 / T``: a number and None, or 1 and float64 ``[N]``, NaN where ``T`` is out of range."""
    given = _temperature(who, temperature, beside, of)
    if not isinstance(given, torch.Tensor):
        return 1 / given, None
    wide = given.to(torch.float64)
    return 1.0, torch.where(_good(wide), wide, torch.nan).reciprocal()


def check_temperatures(who: str, temperature: ArrayLike) -> None:
    """Looks at the values of a tensor, which waits for its device."""
    if not isinstance(temperature, torch.Tensor):
        return
    bad = ~_good(temperature)
    if bad.any():
        at = int(bad.reshape(-1).nonzero()[0, 0])
        place = f" at flat index {at}" if temperature.dim() else ""
        raise ValueError(_bad_temperature(who, float(temperature.reshape(-1)[at]), place))


def _good(temperature: torch.Tensor) -> torch.Tensor:
    wide = temperature.double()
    return (wide >= LEAST) & (wide <= MOST)


def _bad_temperature(who: str, temperature: float, place: str = "") -> str:
    return f"{who}(): 'temperature' must be positive and finite ({_RANGE}), got {temperature}{place}"


def _temperature(who: str, temperature: ArrayLike, beside: torch.Tensor, of: str) -> float | torch.Tensor:
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
            _check_place(who, "temperature", temperature, beside, of)
            return temperature.reshape(-1)
        if temperature.device.type != "cpu":
            _check_device(who, "temperature", temperature, beside, of)
        if temperature.device.type != "cpu" or torch.compiler.is_compiling():
            # To read the number would wait for the device.
            return temperature.to(beside.device).expand(rows_of(beside))
    number = temperature.item() if isinstance(temperature, (torch.Tensor, np.generic)) else temperature
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        msg = f"{who}(): 'temperature' must be a number or a tensor with one number a row, got {describe(temperature)}"
        raise TypeError(msg)
    number = as_float(who, "temperature", number)
    if not LEAST <= number <= MOST:
        raise ValueError(_bad_temperature(who, number))
    return number


def _check_place(
    who: str, name: str, x: torch.Tensor, beside: torch.Tensor, of: str, *, anywhere: bool = False
) -> None:
    rows = tuple(beside.shape[:-1])
    if tuple(x.shape) != rows:
        msg = f"{who}(): {name!r} must have shape {rows} (= {of}.shape[:-1]), got {tuple(x.shape)}"
        raise ValueError(msg)
    if not anywhere or x.device.type != "cpu":
        _check_device(who, name, x, beside, of)


def _check_device(who: str, name: str, x: torch.Tensor, beside: torch.Tensor, of: str) -> None:
    if x.device != beside.device:
        msg = f"{who}(): {name!r} must be on {beside.device} (= {of}.device), got {x.device}"
        raise ValueError(msg)


def check_softcap(who: str, softcap: float | None) -> float | None:
    """A positive number or None."""
    return None if softcap is None else check_factor(who, "softcap", softcap)


def check_factor(who: str, name: str, x: float) -> float:
    """A positive number."""
    number = real(who, name, x, above=0)
    if not LEAST <= number <= MOST:
        msg = f"{who}(): {name!r} must be finite and positive ({_RANGE}), got {number}"
        raise ValueError(msg)
    return number


def check_ignore_index(who: str, ignore_index: int | None) -> int | None:
    """An integer or None."""
    if ignore_index is None:
        return None
    number = whole(who, "ignore_index", ignore_index, least=-(2**63))
    if number >= 2**63:
        msg = f"{who}(): 'ignore_index' must fit int64, as labels do, got {number}"
        raise ValueError(msg)
    return number


def check_outputs(
    who: str, outputs: Sequence[str], names: tuple[str, ...], labels: object = None, ids: object = None
) -> tuple[str, ...]:
    """The asked-for names, in the order of ``names``; raises where what they are read from is missing."""
    listed = ", ".join(map(repr, names))
    if not isinstance(outputs, (tuple, list)) or not outputs or any(name not in names for name in outputs):
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
