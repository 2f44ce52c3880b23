"""Token tensors on a GPU: the forms of :class:`TokenRows`, for kernels that copy nothing to the host."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, describe, floats, host, integers, is_tensor, mask_bytes, to_bytes
from rollmath._token_rows import TokenRows, rank
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: Tests set it: CPU tensors go through the kernels, in Triton's interpreter.
INTERPRET = False
#: Bytes that CUDA copies from ordinary memory without waiting for the stream; more may wait, unless they are pinned.
_STAGED = 65536


def on_device(x: Any) -> bool:
    """True for token arrays that the kernels take."""
    x = x.values if isinstance(x, Ragged) else x
    return is_tensor(x) and (x.is_cuda or (INTERPRET and x.device.type == "cpu"))


def rows_of(
    who: str, name: str, x: Any, *, mask: Any = None, lengths: Any = None, valid: Any = None
) -> TokenRows | DeviceRows:
    """The form of the token array ``x``: :class:`DeviceRows` where it is on a GPU, else :class:`TokenRows`."""
    if on_device(x):
        return DeviceRows.of(who, name, x, mask=mask, lengths=lengths, valid=valid)
    return TokenRows.of(who, name, x, mask=mask, lengths=lengths).only(valid)


def kernels(who: str, name: str, module: str, device: torch.device) -> Any:
    """A module of :mod:`rollmath.kernels`, imported when it is needed."""
    if importlib.util.find_spec("triton") is None:
        msg = f"{who}(): {name!r} is on {device}, where this needs Triton, which is not installed; call .cpu()"
        raise ValueError(msg)
    return importlib.import_module(f"rollmath.kernels.{module}")


def moved(x: NDArray[Any], device: torch.device) -> torch.Tensor:
    """A host array on the device, which is not waited for."""
    copied: torch.Tensor = importlib.import_module("torch").from_numpy(x.copy())
    if device.type == "cuda" and x.nbytes > _STAGED:
        copied = copied.pin_memory()
    return copied.to(device, non_blocking=True)


@dataclass(frozen=True)
class DeviceRows:
    """The form that the token tensors of a call have in common, and where they are.

    What describes rows may come from the host or from the device. Values on the host are checked; those on the device
    are not looked at, since that would wait for it: the kernels make a row with a wrong one NaN.
    """

    who: str
    name: str
    torch: Any
    device: torch.device
    shape: tuple[int, ...]
    packed: Ragged | None
    offsets: torch.Tensor | None
    lengths: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    #: False if padding is told from gaps by nothing.
    ends_known: bool = True

    @classmethod
    def of(cls, who: str, name: str, x: Any, *, mask: Any = None, lengths: Any = None, valid: Any = None) -> DeviceRows:
        """Of the token array ``x``, which the others have to be like."""
        torch = importlib.import_module("torch")
        if isinstance(x, Ragged):
            if lengths is not None:
                msg = f"{who}(): 'lengths' goes with padded arrays; {name!r} is a Ragged, which has its own"
                raise ValueError(msg)
            device = x.values.device
            offsets = moved(x.offsets, device)
            rows = cls(who, name, torch, device, (int(x.offsets[-1]),), x, offsets)
        else:
            shape = tuple(x.shape)
            if len(shape) != 2:
                msg = f"{who}(): {name!r} must be a Ragged or a padded 2-D array [B, T], got {describe(x)}"
                raise TypeError(msg)
            rows = cls(who, name, torch, x.device, shape, None, None, ends_known=lengths is not None)
            rows = replace(rows, lengths=rows._lengths(lengths))
        if mask is not None:
            rows = replace(rows, mask=rows.flags("mask", rows.tokens("mask", mask, of_rows=True)))
        return replace(rows, valid=rows.bytes_per_row("valid", valid))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.shape[0] if self.packed is None else len(self.packed)

    @property
    def longest(self) -> int:
        """Length of the longest row, as far as the host knows."""
        return self.shape[1] if self.packed is None else int(self.packed.lengths.max(initial=0))

    @property
    def layout(self) -> dict[str, Any]:
        """Where rows lie, as the kernels take it."""
        return {
            "offsets": self.offsets,
            "lengths": self.lengths,
            "mask": self.mask,
            "valid": self.valid,
            "longest": self.longest,
        }

    def _lengths(self, lengths: Any) -> torch.Tensor | None:
        if lengths is None:
            return None
        if self.is_here(lengths):
            self._vector("lengths", lengths)
            if lengths.dtype == self.torch.bool or lengths.is_floating_point() or lengths.is_complex():
                msg = f"{self.who}(): 'lengths' must hold integers, got {self._dtype(lengths)}"
                raise TypeError(msg)
            return self._plain("lengths", lengths).contiguous()
        used = integers(self.who, "lengths", lengths)[0]
        _core.Layout.padded(self.who, self.shape[0], self.shape[1], used)
        return moved(used, self.device)

    def is_here(self, x: Any) -> bool:
        """True for a tensor on the device of the rows."""
        return is_tensor(x) and x.device == self.device

    def tokens(self, name: str, x: Any, *, of_rows: bool = False, packed_too: bool = False) -> torch.Tensor:
        """A token array; ``packed_too`` allows a flat one for packed rows, ``of_rows`` also a mask on the host."""
        if isinstance(x, Ragged):
            own = None if self.packed is None else self.packed.offsets
            if self.packed is None or (x.offsets is not own and not np.array_equal(x.offsets, self.packed.offsets)):
                what = f"a padded array like {self.name!r}" if self.packed is None else f"the offsets of {self.name!r}"
                msg = f"{self.who}(): {name!r} must {'be' if self.packed is None else 'have'} {what}, got {x!r}"
                raise (TypeError if self.packed is None else ValueError)(msg)
            x = x.values
        elif self.packed is not None and not packed_too and not of_rows:
            msg = f"{self.who}(): {name!r} must be a Ragged with the offsets of {self.name!r}, got {describe(x)}"
            raise TypeError(msg)
        if of_rows and not (is_tensor(x) and x.device.type != "cpu"):
            x = moved(to_bytes(self.who, name, host(self.who, name, x)[0]), self.device)
        if not self.is_here(x):
            got = x.device if is_tensor(x) else describe(x)
            msg = f"{self.who}(): {name!r} must be a tensor on {self.device} (= {self.name}.device), got {got}"
            raise ValueError(msg)
        if tuple(x.shape) != self.shape:
            got = tuple(x.shape)
            msg = f"{self.who}(): {name!r} must have shape {self.shape} (= that of {self.name!r}), got {got}"
            raise ValueError(msg) if x.dim() == len(self.shape) else TypeError(msg)
        return self._plain(name, x)

    def _plain(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad:
            msg = f"{self.who}(): {name!r} requires grad, but no gradient flows through this function; call .detach()"
            raise ValueError(msg)
        return x

    def _dtype(self, x: torch.Tensor) -> str:
        return str(x.dtype).removeprefix("torch.")

    def _vector(self, name: str, x: torch.Tensor) -> None:
        if x.dim() != 1:
            msg = f"{self.who}(): {name!r} must be 1-D, got {describe(x)} of shape {tuple(x.shape)}"
            raise TypeError(msg)
        if len(x) != self.rows:
            msg = f"{self.who}(): {name!r} must have length {self.rows} (= the number of rows), got {len(x)}"
            raise ValueError(msg)

    def read(self, **arrays: Any) -> list[torch.Tensor]:
        """Token arrays of float types; ints and bools become float64 beside float64, else float32."""
        found = []
        for name, x in arrays.items():
            flat = self.tokens(name, x)
            if flat.is_complex():
                msg = f"{self.who}(): {name!r} must hold floats, ints or bools, got {self._dtype(flat)}"
                raise TypeError(msg)
            found.append(flat)
        dtype = self.result_dtype(*found)
        return [x if x.is_floating_point() else x.to(dtype) for x in found]

    def result_dtype(self, *arrays: torch.Tensor) -> torch.dtype:
        """float64 if any of them is, else float32."""
        wide, single = self.torch.float64, self.torch.float32
        dtype: torch.dtype = wide if any(x.dtype == wide for x in arrays) else single
        return dtype

    def flags(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """A mask: bools or integers."""
        if x.is_floating_point() or x.is_complex():
            msg = f"{self.who}(): {name!r} must be bool or integer (nonzero = True), got {self._dtype(x)}"
            raise TypeError(msg)
        return x

    def is_per_row(self, x: Any) -> bool:
        """True for one number a row instead of one a token."""
        return rank(self.who, "rewards", x) == 1

    def per_row(self, name: str, x: Any) -> torch.Tensor:
        """One number a row."""
        if not self.is_here(x):
            return moved(
                floats(self.who, name, x, length=self.rows, why="the number of rows")[0].astype("f8"), self.device
            )
        self._vector(name, x)
        if x.is_complex():
            msg = f"{self.who}(): {name!r} must hold floats, ints or bools, got {self._dtype(x)}"
            raise TypeError(msg)
        x = self._plain(name, x).contiguous()
        return x if x.is_floating_point() else x.double()

    def bytes_per_row(self, name: str, x: Any) -> torch.Tensor | None:
        """An optional mask over the rows."""
        if x is None:
            return None
        if not self.is_here(x):
            keep = mask_bytes(self.who, name, x, length=self.rows, why="the number of rows")
            return None if keep is None else moved(keep, self.device)
        self._vector(name, x)
        return self.flags(name, self._plain(name, x)).contiguous()

    def outputs(self, out: Any, dtype: torch.dtype, count: int, inputs: dict[str, Any]) -> list[torch.Tensor]:
        """Tensors for ``count`` results, given or new; none may share memory with ``inputs``."""
        given = [None] * count if out is None else [out] if count == 1 else out
        if not isinstance(given, (list, tuple)) or len(given) != count:
            msg = f"{self.who}(): 'out' must be {count} arrays, got {describe(out)}"
            raise TypeError(msg)
        made: list[torch.Tensor] = []
        for one in given:
            if one is None:
                made.append(self.torch.empty(self.shape, dtype=dtype, device=self.device))
                continue
            target = self.tokens("out", one, packed_too=True)
            if target.dtype != dtype:
                msg = (
                    f"{self.who}(): 'out' must be of the kind and dtype of the values ({dtype}), got {describe(target)}"
                )
                raise TypeError(msg)
            if not target.is_contiguous():
                msg = f"{self.who}(): 'out' must be C-contiguous and aligned"
                raise ValueError(msg)
            for name, other in [*inputs.items(), *(("out", x) for x in made)]:
                if is_tensor(other) and _overlap(target, other):
                    msg = f"{self.who}(): 'out' shares memory with {name!r}; pass an array of its own"
                    raise ValueError(msg)
            made.append(target)
        return made

    def wrap(self, x: torch.Tensor) -> Array:
        """A result in the form of the inputs."""
        return x if self.packed is None else self.packed.with_values(x)


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the addresses from first to last element meet."""

    def ends(x: torch.Tensor) -> tuple[int, int]:
        last = sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))
        return x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()

    (first, end), (other, other_end) = ends(a), ends(b)
    return bool(a.numel() and b.numel()) and a.device == b.device and first < other_end and other < end
