"""Tasks with a verifier. A module of this package with a ``TASK`` is a task, found by the name of the module."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.training.tasks.base import Item, Task

__all__ = ["Item", "Task", "get", "names"]


def names() -> list[str]:
    """All tasks of single responses."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


@cache
def get(name: str) -> Task:
    """The task of that name; its held-out items are drawn once."""
    if name not in names():
        msg = f"unknown task {name!r}; there are: {', '.join(names())}"
        raise ValueError(msg)
    task: Task = importlib.import_module(f"{__name__}.{name}").TASK
    return task
