"""Adapters: one module a trainer, which imports that trainer when it is used and not before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollmath.adapters import slime, transformers, trl, verl

__all__ = ["slime", "transformers", "trl", "verl"]

if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return importlib.import_module(f"rollmath.adapters.{name}")
        msg = f"module 'rollmath.adapters' has no attribute {name!r}"
        raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
