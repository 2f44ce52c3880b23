"""What verl's configuration says to an estimator: its own keys, and the table ``algorithm.rollmath``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rollmath import conventions
from rollmath.conventions import Convention, Framework, Whiten
from rollmath.recipes._method import convention_of
from rollmath.recipes._options import nearest

#: Keys of ``algorithm.rollmath`` that are not options of a method.
RESERVED = ("columns", "convention")
#: Fields of a convention, which methods take as keywords.
OVERRIDES = tuple(field.name for field in fields(Convention))


def setting(config: Any, key: str, default: Any = None) -> Any:
    """A key of verl's configuration (a DictConfig, a dataclass, a dict, an object); ``default`` if missing."""
    if config is None:
        return default
    get = getattr(config, "get", None)
    found = get(key, default) if callable(get) else getattr(config, key, default)
    return default if found is None else found


def table(who: str, config: Any) -> dict[str, Any]:
    """``algorithm.rollmath`` as plain dicts and lists.

    Raises:
        TypeError: it is no table.
    """
    found = setting(config, "rollmath")
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        msg = f"{who}(): 'algorithm.rollmath' must be a table of options, got {found!r}"
        raise TypeError(msg)
    return {str(key): plain(value) for key, value in found.items()}


def plain(value: Any) -> Any:
    """A DictConfig or ListConfig as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(part) for part in value]
    return value


def check_known(who: str, what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ValueError for a name that is not known; the message lists those that are, the nearest first."""
    for name in given:
        if name in set(known):
            continue
        msg = f"{who}(): unknown {what} {name!r}; known are {nearest(name, known, most=sys.maxsize)}"
        raise ValueError(msg)


def whiten_of(who: str, value: Any) -> Whiten | None:
    """``algorithm.rollmath.whiten``: a table of :class:`~rollmath.conventions.Whiten`, or false for none."""
    if value is False or value is None or isinstance(value, Whiten):
        return value or None
    if not isinstance(value, Mapping):
        msg = f"{who}(): 'algorithm.rollmath.whiten' must be false or a table of Whiten, got {value!r}"
        raise TypeError(msg)
    check_known(who, "field of 'algorithm.rollmath.whiten'", value, [field.name for field in fields(Whiten)])
    return Whiten(**value)


def method_options(
    who: str,
    function: Callable[..., Any],
    framework: str,
    options: Mapping[str, Any],
    columns: Iterable[str],
    keys: Mapping[str, Any],
) -> dict[str, Any]:
    """Keywords for a method: what the framework does, over it verl's keys, over these ``algorithm.rollmath``.

    Args:
        who: name of the estimator.
        function: the method.
        framework: its name in the options of a framework.
        options: the table.
        columns: parameters that are arrays, which come with the batch and are no options.
        keys: options that verl has keys for.

    Raises:
        ValueError: an option that the method does not have; a convention without this method.
    """
    parameters = inspect.signature(function).parameters
    named = options.get("convention")
    rules = convention_of(who, conventions.VERL_0_9 if named is None else named, name="algorithm.rollmath.convention")
    out: dict[str, Any] = {}
    if isinstance(rules, Framework):
        out |= {key: value for key, value in rules.options.get(framework, {}).items() if key in parameters}
    out |= keys
    if "convention" in parameters:
        # verl has no convention for a method that it does not have: then what the papers say.
        if not isinstance(rules, Framework):
            out["convention"] = rules
        elif framework in rules:
            out["convention"] = rules[framework]
        elif named is None:
            out["convention"] = conventions.DEFAULT
        else:
            has = ", ".join(rules)
            msg = f"{who}(): 'algorithm.rollmath.convention' {named!r} has none for {framework!r}; it has: {has}"
            raise ValueError(msg)
    takes = [name for name in parameters if name not in {*columns, "override", "out", "convention"}]
    takes += OVERRIDES if "override" in parameters else ()
    check_known(who, "option 'algorithm.rollmath'", [key for key in options if key not in RESERVED], takes)
    out |= {key: tuple(value) if isinstance(value, list) else value for key, value in options.items() if key in takes}
    for name in takes:
        if name not in out and name in parameters and parameters[name].default is inspect.Parameter.empty:
            where = f"{function.__module__.rpartition('.')[0]}.{function.__name__}"
            msg = f"{who}(): needs the option 'algorithm.rollmath.{name}', see {where}"
            raise ValueError(msg)
    if "whiten" in out:
        out["whiten"] = whiten_of(who, out["whiten"])
    return out
