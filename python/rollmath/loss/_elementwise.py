"""One number a token in any kind: NumPy, torch on its device, lists, Ragged. Constants: no gradient passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rollmath._arrays import Array, ArrayLike, describe, host
from rollmath.ragged import Ragged


@dataclass(frozen=True)
class Column:
    """Numbers without gradient, as a tensor of their own float type, and the way back to their kind."""

    values: torch.Tensor
    ragged: Ragged | None = None
    is_torch: bool = True

    @property
    def exact(self) -> torch.Tensor:
        """The numbers in float64."""
        return self.values.to(torch.float64)

    def back(self, x: torch.Tensor) -> Array:
        """A float64 result in the kind and float type that came in (one rounding); a bool one in the kind."""
        x = x if x.dtype == torch.bool else x.to(self.values.dtype)
        array = x if self.is_torch else x.numpy()
        return array if self.ragged is None else self.ragged.with_values(array)


def read(who: str, name: str, x: ArrayLike | Ragged, ranks: tuple[int, ...] = (1, 2)) -> Column:
    """Numbers by the rules of :mod:`rollmath._arrays`, except that a tensor may require grad: it is detached.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: a tensor that holds no numbers.
    """
    given = x.values if isinstance(x, Ragged) else x
    values, is_torch = (
        (_dense(who, name, given), True) if isinstance(given, torch.Tensor) else (from_host(who, name, given), False)
    )
    if values.dim() not in ranks:
        shapes = "1-D" if ranks == (1,) else "one number a token, [tokens] or [B, T]"
        msg = f"{who}(): {name!r} must be {shapes}, got {describe(values)}"
        raise TypeError(msg)
    return Column(values, x if isinstance(x, Ragged) else None, is_torch)


def read_like(who: str, name: str, x: ArrayLike | Ragged, like: Column, other: str) -> torch.Tensor:
    """The numbers of a second column in float64, where ``like`` is: nothing broadcasts.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: a shape, offsets or a device that differ from those of ``like``, which is the argument ``other``.
    """
    column = read(who, name, x)
    if column.values.shape != like.values.shape:
        want, got = tuple(like.values.shape), tuple(column.values.shape)
        msg = f"{who}(): {name!r} must have shape {want} (= {other}.shape), got {got}"
        raise ValueError(msg)
    both = column.ragged, like.ragged
    if both[0] is not None and both[1] is not None and not np.array_equal(both[0].offsets, both[1].offsets):
        msg = f"{who}(): {name!r} must have the offsets of {other!r}"
        raise ValueError(msg)
    if column.is_torch and column.values.device != like.values.device:
        msg = f"{who}(): {name!r} must be on {like.values.device} (= {other}.device), got {column.values.device}"
        raise ValueError(msg)
    return column.exact.to(like.values.device)


def _dense(who: str, name: str, x: torch.Tensor) -> torch.Tensor:
    if x.is_meta:
        msg = f"{who}(): {name!r} is on the meta device, which holds no numbers"
        raise ValueError(msg)
    if x.is_complex() or x.layout != torch.strided:
        msg = f"{who}(): {name!r} must be a dense tensor of real numbers, got {x.dtype}, {x.layout}"
        raise TypeError(msg)
    return x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def from_host(who: str, name: str, x: Any) -> torch.Tensor:
    """Numbers of NumPy or of lists as a writable tensor: float32 if they were of 16 or 32 bits, else float64.

    Raises:
        TypeError: no numbers.
    """
    array, _ = host(who, name, x)
    if array.dtype.kind not in "fiub" and array.size:
        msg = f"{who}(): {name!r} must hold floats, ints or bools, got {array.dtype}"
        raise TypeError(msg)
    # By name, so that the byte order of a file does not matter; writable, because torch knows no read-only arrays.
    dtype: Any = "float32" if array.dtype.name in {"float16", "float32"} else "float64"
    return torch.from_numpy(np.require(array, dtype=dtype, requirements=["C", "A", "W"]))
