"""Recipes as tables and back, and one table laid over another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rollmath._arrays import describe
from rollmath.loss import Aggregation
from rollmath.loss._aggregate import AGGREGATIONS
from rollmath.recipes._advantage import Advantage
from rollmath.recipes._options import nearest
from rollmath.recipes._parts import Filter, Overlong
from rollmath.recipes._recipe import Recipe
from rollmath.recipes._table import NONE, made, plain, unpacked

FIELDS = tuple(f.name for f in dataclasses.fields(Recipe))
#: Parts whose tables have their own type, and the option that a string alone stands for.
_SHORT = {"advantage": "method", "filter": "method", "objective": "type", "kl": "type"}
_OWN = {"advantage": Advantage, "filter": Filter, "overlong": Overlong, "aggregation": Aggregation}


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """See :meth:`Recipe.to_dict`."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if field.name != "aggregation" and field.default is not dataclasses.MISSING and value == field.default:
            continue
        if field.name == "advantage":
            out["advantage"] = _advantage(value, "advantage")
        elif field.name in _OWN and not isinstance(value, str):
            table = plain(value, field.name)
            del table["type"]
            if field.name == "filter":
                table = {k: v for k, v in table.items() if v and (k, v) != ("on", "rewards")}
            out[field.name] = table
        else:
            out[field.name] = plain(value, field.name)
    return out


def _advantage(value: Advantage, where: str) -> dict[str, Any]:
    out = {"method": _method(value, where), "convention": plain(value.convention, f"{where}.convention")}
    if value.level is not None:
        out["level"] = value.level
    if value.start is not None:
        out["base"] = _advantage(value.start, f"{where}.base")
    if value.options:
        out["options"] = plain(value.options, f"{where}.options")
    return out


def _method(advantage: Advantage, where: str) -> str:
    if isinstance(advantage.method, str):
        return advantage.method
    msg = (
        f"Recipe.to_dict(): '{where}.method' is a function ({advantage.name}); give its import path as a string, "
        "'package.module:function', which others can import too"
    )
    raise TypeError(msg)


def from_dict(who: str, table: Mapping[str, Any]) -> Recipe:
    """See :meth:`Recipe.from_dict`."""
    if not isinstance(table, Mapping):
        msg = f"{who}(): 'table' must be a table from names to values, got {describe(table)}"
        raise TypeError(msg)
    given = _checked(who, table, FIELDS)
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or value is False or value == NONE:
            continue
        item = {_SHORT[name]: value} if name in _SHORT and isinstance(value, str) else value
        if name == "correction" and isinstance(item, dict):
            item = [item]
        fields[name] = made(who, name, item, _OWN.get(name))
    for name in ("advantage", "objective"):
        if name not in fields:
            msg = f'{who}(): the table needs {name!r}, or a recipe of the library to start from: recipe = "grpo"'
            raise ValueError(msg)
    fields.setdefault("name", "custom")
    return Recipe(**fields)


def laid_over(who: str, base: dict[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """The table ``base``, option by option replaced by those of ``table``.

    A part with another type or method is replaced as a whole, one that is False or None is left out.
    """
    out = dict(base)
    for name, value in _checked(who, table, (*FIELDS, "convention")).items():
        if name == "convention":
            out["advantage"] = {**out["advantage"], "convention": value}
            continue
        item = {_SHORT[name]: value} if name in _SHORT and isinstance(value, str) else value
        before = out.get(name)
        if name == "aggregation" and isinstance(before, str):
            before = {k: v for k, v in plain(AGGREGATIONS[before], name).items() if k != "type"}
        if isinstance(item, dict) and isinstance(before, dict):
            item = _merged(before, item)
        out[name] = item
    return out


def _merged(before: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    for name in ("type", "method"):
        if name in over and over[name] != before.get(name):
            return over
    out = dict(before)
    for name, value in over.items():
        known = out.get(name)
        out[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out


def _checked(who: str, table: Mapping[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    given = unpacked(table)
    for name in given:
        if name not in known:
            msg = f"{who}(): a recipe has no {name!r}; it has: {nearest(name, known)}"
            raise ValueError(msg)
    found: dict[str, Any] = given
    return found
