"""Arrays in, the same kind of arrays out.

The rules, for every public function: float64 stays float64; float32, float16 and bfloat16 give float32; ints, bools
and lists give float64 (NumPy) or float32 (torch). A torch tensor comes back as a torch tensor on its device; numbers
from a CUDA tensor are copied to the host once. Nothing here imports torch: a tensor can only arrive once the caller
has imported it.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rollmath import _core

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

#: What the public functions accept for numbers: a NumPy array, a torch tensor, or a sequence of numbers.
ArrayLike: TypeAlias = Any
#: What they return: the kind that came in.
Array: TypeAlias = Any

_INTS = "?bhilqBHILQ"
_FLOATS: dict[str, type] = {"float16": np.float32, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Kind:
    """Where an argument came from, so that the result can go back there."""

    device: torch.device | None = None

    @property
    def is_torch(self) -> bool:
        """True for torch tensors."""
        return self.device is not None

    def wrap(self, x: NDArray[Any]) -> Array:
        """The NumPy result as an array of this kind."""
        if self.device is None:
            return x
        torch = sys.modules["torch"]
        return torch.from_numpy(x).to(self.device)


def is_tensor(x: object) -> bool:
    """True for a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def describe(x: object) -> str:
    """Short words for an object in an error message."""
    shape = getattr(x, "shape", None)
    if shape is not None and hasattr(x, "dtype"):
        return f"a {len(shape)}-D {str(x.dtype).removeprefix('torch.')} array"
    return f"an object of type {type(x).__name__}"


def counted(n: int, what: str) -> str:
    """``1 node``, ``2 nodes``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def host(who: str, name: str, x: ArrayLike) -> tuple[NDArray[Any], Kind]:
    """Any array as NumPy, bfloat16 widened; lists become arrays.

    Raises:
        ValueError: for a tensor that requires grad.
        TypeError: for something that holds no numbers.
    """
    if is_tensor(x):
        return _from_torch(who, name, x)
    if isinstance(x, np.ma.MaskedArray):
        msg = f"{who}(): {name!r} is a masked array, whose mask would be lost; pass its .data, and the mask as valid="
        raise TypeError(msg)
    if isinstance(x, np.ndarray):
        return x, Kind()
    try:
        array = np.asarray(x)
    except (ValueError, RuntimeError):
        # Rows of unequal length; tensors that require grad.
        array = np.empty(0, dtype=object)
    if array.dtype == object:
        # A list of 0-d tensors or of None and numbers: say so instead of guessing.
        msg = f"{who}(): {name!r} must be an array of numbers, got {describe(x)} that NumPy cannot read as numbers"
        raise TypeError(msg)
    return array, Kind()


def _from_torch(who: str, name: str, x: torch.Tensor) -> tuple[NDArray[Any], Kind]:
    torch = sys.modules["torch"]
    if x.requires_grad:
        msg = f"{who}(): {name!r} requires grad, but no gradient flows through this function; call .detach()"
        raise ValueError(msg)
    if x.is_meta:
        msg = f"{who}(): {name!r} is on the meta device, which holds no numbers"
        raise ValueError(msg)
    kind = Kind(x.device)
    x = x.cpu()
    if x.dtype == torch.bfloat16:
        bits = x.contiguous().view(torch.uint16).numpy()
        return _core.widen_bf16(bits.reshape(-1)).reshape(x.shape), kind
    try:
        return x.numpy(), kind
    except TypeError as cause:
        msg = f"{who}(): {name!r} must be a dense tensor of a dtype that NumPy knows, got {x.dtype}, {x.layout}"
        raise TypeError(msg) from cause


def host_only(who: str, name: str, x: ArrayLike) -> None:
    """Raises for a token-level tensor that is not on the host, instead of copying it there in silence."""
    if is_tensor(x) and x.device.type != "cpu":
        msg = (
            f"{who}(): {name!r} has one number a token and is on {x.device}, but this path runs on the CPU; call .cpu()"
        )
        raise ValueError(msg)


def check_vector(who: str, name: str, x: NDArray[Any], length: int | None, why: str) -> None:
    """Raises unless ``x`` is 1-D and has ``length`` elements (``why`` says where the length comes from)."""
    if x.ndim != 1:
        msg = f"{who}(): {name!r} must be 1-D, got {describe(x)} of shape {x.shape}"
        raise TypeError(msg)
    if length is not None and len(x) != length:
        msg = f"{who}(): {name!r} must have length {length} (= {why}), got {len(x)}"
        raise ValueError(msg)


def floats(
    who: str, name: str, x: ArrayLike, *, length: int | None = None, why: str = "len(groups)"
) -> tuple[NDArray[Any], Kind]:
    """A contiguous 1-D float32 or float64 array by the rules above, and its kind.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: wrong length; a tensor that requires grad.
    """
    array, kind = host(who, name, x)
    check_vector(who, name, array, length, why)
    dtype: type
    if array.dtype.name in _FLOATS:
        # By name, so that the byte order of a file does not matter.
        dtype = _FLOATS[array.dtype.name]
    elif array.dtype.char in _INTS:
        dtype = np.float32 if kind.is_torch else np.float64
    elif array.size == 0:
        dtype = np.float64
    else:
        msg = f"{who}(): {name!r} must hold floats, ints or bools, got {array.dtype}"
        raise TypeError(msg)
    return contiguous(array, dtype), kind


def contiguous(array: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """The array itself if the core can read it (C order, aligned, native bytes), else a copy that it can."""
    array = np.ascontiguousarray(array, dtype=dtype)
    return array if array.flags.aligned else array.copy()


def mask_bytes(
    who: str, name: str, x: ArrayLike | None, *, length: int | None = None, why: str = "len(groups)"
) -> NDArray[np.uint8] | None:
    """An optional mask as bytes 0 and nonzero. Bools and integers are masks (nonzero is True); floats are not."""
    if x is None:
        return None
    array, _ = host(who, name, x)
    check_vector(who, name, array, length, why)
    return to_bytes(who, name, array)


def to_bytes(who: str, name: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """A mask of any shape as contiguous bytes, not copied if it is one already."""
    if array.dtype.char not in _INTS and array.size:
        msg = f"{who}(): {name!r} must be bool or integer (nonzero = True), got {array.dtype}"
        raise TypeError(msg)
    if array.dtype.itemsize == 1:
        return np.ascontiguousarray(array).view(np.uint8)
    return np.ascontiguousarray(array != 0).view(np.uint8)


def integers(
    who: str, name: str, x: ArrayLike, *, length: int | None = None, why: str = ""
) -> tuple[NDArray[np.int64], Kind]:
    """A contiguous 1-D int64 array; floats are refused rather than truncated.

    Raises:
        TypeError: not integers, or not 1-D.
        ValueError: wrong length, or values past int64.
    """
    array, kind = host(who, name, x)
    check_vector(who, name, array, length, why)
    if array.size and (array.dtype.char not in _INTS or array.dtype == bool):
        msg = f"{who}(): {name!r} must hold integers, got {array.dtype}"
        raise TypeError(msg)
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        msg = f"{who}(): {name!r} must fit int64, got {array.max()}"
        raise ValueError(msg)
    return contiguous(array, np.int64), kind


def choice(who: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises unless ``value`` is one of ``choices``; the message lists them."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(repr(c) for c in choices)
        msg = f"{who}(): {name!r} must be one of {listed}, got {value!r}"
        raise ValueError(msg)


def check_ddof(who: str, ddof: Any, *, most: int = 1000) -> int:
    """``ddof`` as an int from 0 to ``most``.

    Raises:
        TypeError: not a whole number.
        ValueError: out of range.
    """
    try:
        if isinstance(ddof, (bool, np.bool_)):
            raise TypeError
        n = operator.index(ddof)
    except TypeError:
        msg = f"{who}(): 'ddof' must be a whole number of at least 0, got {ddof!r}"
        raise TypeError(msg) from None
    if not 0 <= n <= most:
        msg = f"{who}(): 'ddof' must be a whole number from 0 to {most}, got {ddof!r}"
        raise ValueError(msg)
    return n


def number(who: str, name: str, value: object) -> float:
    """A scalar option as a float.

    Raises:
        TypeError: not a number.
        ValueError: an integer past float64.
    """
    if isinstance(value, (int, float, np.integer, np.floating)):
        try:
            return float(value)
        except OverflowError:
            msg = f"{who}(): {name!r} must fit float64, got an integer of {int(value).bit_length()} bits"
            raise ValueError(msg) from None
    msg = f"{who}(): {name!r} must be a number, got {describe(value)}"
    raise TypeError(msg)


def frozen(x: NDArray[Any]) -> NDArray[Any]:
    """The array itself, made read-only; for arrays that a noun owns."""
    x.setflags(write=False)
    return x


class Immutable:
    """Base of the nouns: attributes are set once, by :meth:`_fill`; cached properties still work."""

    def _fill(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getstate__(self) -> dict[str, Any]:
        cached = {
            name for kind in type(self).__mro__ for name, x in vars(kind).items() if isinstance(x, cached_property)
        }
        return {name: x for name, x in self.__dict__.items() if name not in cached}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Pickled arrays may be written to again.
        self._fill(**{name: frozen(x) if isinstance(x, np.ndarray) else x for name, x in state.items()})

    def __setattr__(self, name: str, value: Any) -> None:
        msg = f"{type(self).__name__} is immutable; make a new one instead of setting {name!r}"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"{type(self).__name__} is immutable; {name!r} cannot be deleted"
        raise AttributeError(msg)
