"""How a method is called with the rollouts that take part, and its numbers put in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import is_tensor
from rollmath.groups import Groups
from rollmath.recipes._method import Method

if TYPE_CHECKING:
    from numpy.typing import NDArray


def called(method: Method, supplied: dict[str, Any], given: dict[str, Any]) -> Any:
    """The method, with what it asks of what is supplied, and with all that is given."""
    named = {**{k: x for k, x in supplied.items() if k in method.parameters}, **given}
    positional = [named.pop(n) for n, p in method.parameters.items() if p.kind is p.POSITIONAL_ONLY and n in named]
    return method.call(*positional, **named)


def length(x: Any) -> int | None:
    """The length of what has one."""
    return len(x) if hasattr(x, "__len__") and not isinstance(x, (str, bytes, Mapping)) else None


def picked(x: Any, at: NDArray[np.int64]) -> Any:
    """Some elements, of the same kind."""
    if isinstance(x, Groups):
        return x.take(at)
    if is_tensor(x):
        return x[at]
    return x[at] if isinstance(x, np.ndarray) else [x[i] for i in at.tolist()]


def scattered(x: Any, at: NDArray[np.int64], n: int) -> Any:
    """``n`` numbers of the kind of ``x``: these at their places, 0 elsewhere."""
    if is_tensor(x):
        out = x.new_zeros(n)
        out[at] = x
        return out
    values = np.asarray(x)
    full = np.zeros(n, values.dtype)
    full[at] = values
    return full


def where(keep: NDArray[np.bool_], values: Any) -> Any:
    """The values that are kept, 0 elsewhere, of the same kind."""
    if isinstance(values, np.ndarray):
        return np.where(keep, values, values.dtype.type(0))
    import torch  # noqa: PLC0415 - a tensor came, so it is loaded

    return values.where(torch.from_numpy(keep).to(values.device), values.new_zeros(()))
