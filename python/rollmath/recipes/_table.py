"""Parts of recipes as plain tables and back: strings, numbers, bools, lists and dicts alone."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from rollmath import conventions, loss
from rollmath._arrays import describe
from rollmath.conventions import Convention, Framework, Whiten
from rollmath.recipes._method import imported, path_of
from rollmath.recipes._options import Options, fixed, nearest

#: What stands for None where that is not the default: tables have no None.
NONE = {"type": "none"}


@cache
def types() -> dict[str, type]:
    """What ``type`` can name: objectives, terms, corrections, aggregations and conventions."""
    found: dict[str, type] = {"Convention": Convention, "Whiten": Whiten, "Aggregation": loss.Aggregation}
    for name in loss.__all__:
        value = getattr(loss, name)
        if inspect.isclass(value) and dataclasses.is_dataclass(value) and _role(value):
            found[name] = value
    return found


def _role(kind: type) -> str:
    """What a type can be in a recipe, the empty string for none of these."""
    if issubclass(kind, loss.Objective):
        return "objective"
    return "correction" if hasattr(kind, "weigh") else ""


def plain(value: Any, where: str) -> Any:
    """Of plain types, tables with a ``type`` for dataclasses.

    Raises:
        TypeError: it has no such form.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (bool, int, float, str)):
        return value
    if value is None:
        return dict(NONE)
    if isinstance(value, Mapping) and not isinstance(value, Framework):
        return {str(name): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if isinstance(value, Framework) and getattr(conventions, value.name, None) == value:
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"type": _type_name(value, where), **_fields(value, where)}
    fix = "give it as an import path 'package.module:name'" if callable(value) else "give it in Python"
    msg = f"Recipe.to_dict(): {where!r} has no form in a table, got {describe(value)}; {fix}"
    raise TypeError(msg)


def _fields(value: Any, where: str) -> dict[str, Any]:
    out = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.init and not (item is None and field.default is None):
            out[field.name] = plain(item, f"{where}.{field.name}")
    return out


def _type_name(value: Any, where: str) -> str:
    kind = type(value)
    if types().get(kind.__name__) is kind:
        return kind.__name__
    path = path_of(kind)
    if path is None:
        msg = (
            f"Recipe.to_dict(): {where!r} is of type {kind.__name__}, which has no import path; define it at the top "
            "level of a module that can be imported"
        )
        raise TypeError(msg)
    return path


def unpacked(value: Any) -> Any:
    """Tables and lists of any kind (those of configuration packages too) as dicts and lists."""
    if isinstance(value, Mapping) and not isinstance(value, Framework):
        return {str(name): unpacked(value[name]) for name in value}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and not dataclasses.is_dataclass(value):
        return [unpacked(item) for item in value]
    return value


def made(who: str, name: str, value: Any, default: type | None = None) -> Any:
    """What a table stands for; lists become tuples, and what is no table stays.

    Args:
        who: for messages.
        name: of the part, likewise.
        value: a table with ``type``, or a value.
        default: the type of a table without.

    Raises:
        ValueError: an unknown type.
        TypeError: options that it does not have.
    """
    if isinstance(value, list):
        return tuple(made(who, f"{name}[{number}]", item) for number, item in enumerate(value))
    if not isinstance(value, dict):
        return fixed(value)
    options = dict(value)
    kind: Any = default
    if "type" in options:
        wanted = options.pop("type")
        if wanted == "none":
            return None
        kind = _type(who, name, wanted)
    if kind is None:
        return Options({key: made(who, f"{name}.{key}", item) for key, item in options.items()})
    known = [f.name for f in dataclasses.fields(kind) if f.init]
    for key in options:
        if key not in known:
            msg = f"{who}(): {name!r} of type {kind.__name__!r} has no option {key!r}; it has: {nearest(key, known)}"
            raise TypeError(msg)
    lacking = [
        f.name
        for f in dataclasses.fields(kind)
        if f.init
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and f.name not in options
    ]
    if lacking:
        msg = f"{who}(): {name!r} of type {kind.__name__!r} needs the option {lacking[0]!r}"
        raise TypeError(msg)
    return kind(**{key: made(who, f"{name}.{key}", item) for key, item in options.items()})


def _type(who: str, name: str, wanted: Any) -> type:
    if isinstance(wanted, str) and ":" in wanted:
        kind = imported(who, f"{name}.type", wanted)
        if not inspect.isclass(kind) or not dataclasses.is_dataclass(kind):
            msg = f"{who}(): '{name}.type' must lead to a dataclass, got {wanted!r}"
            raise TypeError(msg)
        return kind
    if wanted not in types():
        role = "objective" if name == "kl" else name.partition("[")[0]
        known = [key for key, kind in types().items() if _role(kind) == role] or list(types())
        msg = (
            f"{who}(): '{name}.type' must be one of {nearest(str(wanted), known)}, or an import path "
            f"'package.module:Class', got {wanted!r}"
        )
        raise ValueError(msg)
    return types()[wanted]
