"""How a function of anyone's is called: what it takes by its style, and the kinds of arrays worth a try."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rollmath.testing._registry import needs_torch

MASKS = ("bool", "int64", "float32")
#: Where the ids are among the arguments.
_IDS_AT = {"rollouts": 1, "tokens": 2}


@dataclass(frozen=True)
class Way:
    """What a function is given: the kind of its arrays and of its ids, ``"numpy"`` or ``"torch"``; masks, if any."""

    arrays: str
    ids: str
    mask: str | None

    def __str__(self) -> str:
        said = "NumPy arrays" if self.arrays == "numpy" else "torch tensors"
        if self.ids != self.arrays:
            said += ", ids in a NumPy array"
        return said if self.mask is None else f"{said}, {self.mask} masks"


def ways(
    fn: Callable[..., Any], style: str, has: frozenset[str], arrays: str | None, mask: str | None
) -> Iterator[Way]:
    """The ways to call an advantage function that are worth a try, in order; ``arrays`` and ``mask`` as asked for."""
    if style == "verl":
        yield Way("torch", "numpy", mask or "int64")  # as verl's are
        return
    masks: tuple[str | None, ...] = ((mask,) if mask else MASKS) if "tokens" in has else (None,)
    kinds = (arrays,) if arrays else ("numpy", "torch") if _has_torch() else ("numpy",)
    # A function of tensors may run with arrays, where std() is another one.
    tensors = ["Tensor" in str(p.annotation) for p in _parameters(fn)]
    if kinds == ("numpy", "torch") and any(tensors[:1]):
        kinds = ("torch",)
    if "numpy" in kinds:
        yield from (Way("numpy", "numpy", m) for m in masks)
    if "torch" in kinds:
        # Ids in an array first: as keys of a dict, all tensors differ, and a function would run with each row alone.
        plain = "ids" in has and not any(tensors[_IDS_AT[style] :][:1])
        yield from (Way("torch", ids, m) for ids in (("numpy", "torch") if plain else ("torch",)) for m in masks)


def _has_torch() -> bool:
    try:
        needs_torch("tensors need")
    except ModuleNotFoundError:
        return False
    return True


def _parameters(fn: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # written in C
        return []


def arguments_of(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments, of what is behind decorators."""
    return tuple(p.name for p in _parameters(fn))


def abilities(style: str, arguments: tuple[str, ...] = ()) -> frozenset[str]:
    """What a function of a style takes; of verl's, by the names of its arguments."""
    if style == "verl":
        found = {"tokens"}
        found |= {"groups", "ids"} if "index" in arguments else set()
        found |= {"values"} if "values" in arguments else set()
        return frozenset(found)
    takes = {
        "rollouts": {"groups", "ids"},
        "consecutive": {"groups"},
        "tokens": {"groups", "ids", "tokens"},
        "values": {"tokens", "values"},
    }
    return frozenset(takes[style])
