"""Checks of the arguments of the vocabulary reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from rollmath._arrays import ArrayLike, describe
from rollmath._arrays import number as as_float

_INTEGERS = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}


def check_logits(who: str, logits: torch.Tensor) -> None:
    """Raises unless ``logits`` is a float tensor ``[..., V]`` with ``V`` at least 1."""
    if not isinstance(logits, torch.Tensor) or not logits.is_floating_point():
        msg = f"{who}(): 'logits' must be a float tensor [..., V], got {describe(logits)}"
        raise TypeError(msg)
    if logits.dim() == 0 or logits.shape[-1] == 0:
        msg = f"{who}(): 'logits' must have shape [..., V] with V of at least 1, got {tuple(logits.shape)}"
        raise ValueError(msg)


def check_labels(who: str, labels: torch.Tensor, logits: torch.Tensor, ignore_index: int | None) -> torch.Tensor:
    """The labels as int64 ``[N]``; on the CPU their range is checked, elsewhere that would wait for the device."""
    if not isinstance(labels, torch.Tensor) or labels.dtype not in _INTEGERS:
        msg = f"{who}(): 'labels' must be an integer tensor, got {describe(labels)}"
        raise TypeError(msg)
    _check_place(who, "labels", labels, logits)
    flat = labels.reshape(-1).to(torch.int64)
    if flat.device.type == "cpu" and flat.numel():
        vocab = logits.shape[-1]
        bad = (flat < 0) | (flat >= vocab)
        if ignore_index is not None:
            bad &= flat != ignore_index
        if bad.any():
            at = int(bad.nonzero()[0, 0])
            hint = "" if ignore_index is not None else "; labels to skip need ignore_index="
            msg = f"{who}(): 'labels' must be in [0, {vocab}) (= V), got {int(flat[at])} at flat index {at}{hint}"
            raise ValueError(msg)
    return flat


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
    if ids.device != logits.device:
        msg = f"{who}(): 'ids' must be on {logits.device} (= logits.device), got {ids.device}"
        raise ValueError(msg)
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
    if isinstance(temperature, torch.Tensor):
        if temperature.requires_grad:
            msg = f"{who}(): 'temperature' requires grad, but no gradient flows to it; call .detach()"
            raise ValueError(msg)
        if temperature.dim():
            return _column(who, temperature, logits)
    number = temperature.item() if isinstance(temperature, (torch.Tensor, np.generic)) else temperature
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        msg = f"{who}(): 'temperature' must be a number or a tensor with one number a row, got {describe(temperature)}"
        raise TypeError(msg)
    number = as_float(who, "temperature", number)
    if not (math.isfinite(number) and number > 0):
        msg = f"{who}(): 'temperature' must be positive and finite, got {number}"
        raise ValueError(msg)
    return number


def _column(who: str, temperature: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    _check_place(who, "temperature", temperature, logits)
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    column = temperature.reshape(-1, 1).to(dtype)
    good = (column > 0) & column.isfinite()
    if column.device.type == "cpu" and not good.all():
        at = int((~good).nonzero()[0, 0])
        msg = f"{who}(): 'temperature' must be positive and finite, got {float(column[at])} at flat index {at}"
        raise ValueError(msg)
    return torch.where(good, column, torch.nan)


def _check_place(who: str, name: str, x: torch.Tensor, logits: torch.Tensor) -> None:
    rows = tuple(logits.shape[:-1])
    if tuple(x.shape) != rows:
        msg = f"{who}(): {name!r} must have shape {rows} (= logits.shape[:-1]), got {tuple(x.shape)}"
        raise ValueError(msg)
    if x.device != logits.device:
        msg = f"{who}(): {name!r} must be on {logits.device} (= logits.device), got {x.device}"
        raise ValueError(msg)


def check_outputs(who: str, outputs: Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """The asked-for names, in the order of ``names``."""
    listed = ", ".join(map(repr, names))
    if isinstance(outputs, str) or not outputs or any(name not in names for name in outputs):
        msg = f"{who}(): 'outputs' must be a tuple of one or more of {listed}, got {outputs!r}"
        raise ValueError(msg)
    return tuple(name for name in names if name in outputs)
