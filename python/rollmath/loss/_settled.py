"""What decides what rules do to tokens, as a key: a graph is recorded once for each.

The rules of this package are decided by their fields. Code of a user can read more: attributes of its class, globals,
variables of a function around it. Where these are numbers, strings or functions they are part of the key; where they
could change unseen, as a list or a tensor can, there is no key, and the code runs at each call.
"""

from __future__ import annotations

import dis
from collections.abc import Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cached_property, lru_cache
from types import BuiltinFunctionType, CodeType, FunctionType, MemberDescriptorType, ModuleType
from typing import Any

import torch

from rollmath.loss._arithmetic import Rules
from rollmath.loss._batch import BatchObjective
from rollmath.loss._lowering import Unsupported

#: Packages whose functions always do the same.
_CONSTANT = {
    "abc", "builtins", "collections", "dataclasses", "functools", "math", "numpy", "operator", "rollmath", "torch",
    "typing",
}  # fmt: skip


class Settled:
    """Rules, equal to others that do the same to tokens.

    Attributes:
        rules: the rules without what a kernel takes as an input.
        foreign: whether they have code of a user.
    """

    def __init__(self, rules: Rules) -> None:
        """Raises :class:`Unsupported` if something that can change unseen decides what the rules do."""
        objective = rules.objective
        if isinstance(objective, BatchObjective):
            objective = objective.bare()
        self.rules = replace(rules, objective=objective, coef=None if rules.coef is None else 0.0)
        self.foreign = False
        self._known: set[type] = set()
        self.key = *(self._of(x) for x in (objective, rules.kl, rules.correction)), rules.coef is None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settled) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def _of(self, x: Any) -> Hashable:
        if x is None or isinstance(x, (bool, int, str)):
            return type(x), x
        if isinstance(x, float):
            # Tells 0.0 from -0.0, and has one NaN.
            return float, x.hex()
        if isinstance(x, tuple):
            return type(x), *map(self._of, x)
        kind = type(x)
        if not is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise Unsupported(f"{kind.__name__} is no frozen dataclass, number, string or tuple")
        names = [field.name for field in fields(kind)]
        for name in getattr(x, "__dict__", {}):
            if name not in names and not isinstance(getattr(kind, name, None), cached_property):
                raise Unsupported(f"{kind.__name__}.{name} is no field")
        return kind, *(self._of(getattr(x, name)) for name in names), self._read_by(kind)

    def _read_by(self, kind: type) -> Hashable:
        """What the code of a class reads beside the fields; nothing for those of this package."""
        if kind in self._known:
            return ()
        self._known.add(kind)
        found: list[Hashable] = []
        seen: set[FunctionType] = set()
        stack = [
            (f"{cls.__name__}.{name}", value)
            for cls in kind.__mro__
            if not _is_constant(cls.__module__)
            for name, value in vars(cls).items()
            if not (name.startswith("__") and name != "__call__") and not name.startswith("_abc_")
        ]
        self.foreign = self.foreign or bool(stack)
        while stack:
            name, value = stack.pop()
            value = getattr(value, "__wrapped__", _function_of(value))
            if isinstance(value, FunctionType):
                if value not in seen and not _is_constant(value.__globals__.get("__name__")):
                    seen.add(value)
                    stack += _reads(value)
                found.append(value)
            elif not _never_changes(value, kind):
                try:
                    found.append((name, self._of(value)))
                except Unsupported:
                    raise Unsupported(f"{kind.__name__} reads {name}, which can change") from None
        return tuple(found)


def _function_of(x: Any) -> Any:
    if isinstance(x, property):
        return x.fget
    if isinstance(x, (classmethod, staticmethod)):
        return x.__func__
    return x.func if isinstance(x, cached_property) else x


def _is_constant(module: object) -> bool:
    return str(module).partition(".")[0] in _CONSTANT


def _never_changes(x: Any, kind: type) -> bool:
    if isinstance(x, ModuleType):
        return _is_constant(x.__name__)
    if isinstance(x, type):
        return x in kind.__mro__ or _is_constant(x.__module__)
    if isinstance(x, BuiltinFunctionType):
        return x.__self__ is None or isinstance(x.__self__, (type, ModuleType))
    return isinstance(x, (torch.dtype, torch.device, MemberDescriptorType))


def _reads(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Names and values that a function reads beside its arguments."""
    for name in _globals_of(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not bound yet
            continue
    for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {function.__name__}", value


@lru_cache(maxsize=256)
def _globals_of(code: CodeType) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_GLOBAL", "LOAD_NAME"}:
            found[str(step.argval)] = None
        if step.opname == "IMPORT_NAME" and not _is_constant(step.argval):
            raise Unsupported(f"{code.co_name} imports {step.argval}")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= dict.fromkeys(_globals_of(inner))
    return tuple(found)
