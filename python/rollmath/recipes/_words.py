"""Recipes in words: what a recipe computes, and how two of them differ."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import Any

from rollmath import select
from rollmath.conventions import Convention
from rollmath.loss import Aggregation
from rollmath.loss._aggregate import as_aggregation
from rollmath.recipes._advantage import Advantage
from rollmath.recipes._library import base_of
from rollmath.recipes._method import CONVENTION_FIELDS, method_of
from rollmath.recipes._recipe import Recipe
from rollmath.recipes._serial import to_dict

#: Columns of an explanation, and of the names in it.
_WIDTH, _NAME = 100, 13


def explain(recipe: Recipe) -> str:
    """See :meth:`Recipe.explain`."""
    known, origin = base_of(recipe) or (recipe, {})
    lines = [f"{recipe.name}" + (f": {recipe.source}" if recipe.source else "")]
    parts = _parts(recipe)
    shown = {part for part, _, _ in parts}
    gone = [f.name for f in dataclasses.fields(recipe) if f.name not in shown | {"name", "source"}]
    parts += [(part, "none", "") for part in gone if getattr(recipe, part) != getattr(known, part)]
    for part, text, numbers in parts:
        lines += _wrapped(part, text)
        lines += _wrapped("", numbers) if numbers else []
        if getattr(recipe, part) != getattr(known, part):
            lines += _wrapped("", f"[changed: {_changes(part, recipe, known)}]")
        elif part in origin:
            lines += _wrapped("", f"[{origin[part]}]")
    for name, meaning in recipe.needs.items():
        lines += _wrapped("needs", f"{name}: {meaning}")
    return "\n".join(lines)


def _changes(part: str, recipe: Recipe, known: Recipe) -> str:
    now, before = _flat(recipe), _flat(known)
    of_part = [key for key in dict.fromkeys([*before, *now]) if key.split(".")[0] == part]
    keys = [key for key in of_part if now.get(key) != before.get(key)]
    return "; ".join(f"{key.removeprefix(part + '.')} was {before.get(key, 'not there')}" for key in keys)


def _parts(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Name, formula and numbers of each part, in the order in which they act."""
    out = []
    if recipe.overlong is not None:
        out.append(("overlong", _first_line(method_of("group.overlong_penalty").call), _numbers(recipe.overlong)))
    if recipe.reward_kl:
        each = recipe.advantage.per_token
        over = "at each trained token" if each else "summed over the trained tokens of the rollout"
        out.append(("reward_kl", f"r -= {recipe.reward_kl:g} (logp - ref), {over}", ""))
    if recipe.filter is not None:
        found = getattr(select, recipe.filter.method, None)
        text = "a function of your own" if found is None else _first_line(found)
        options = _table({**recipe.filter.options, "on": recipe.filter.on})
        out.append(("filter", f"{recipe.filter.method}. {text}", options))
    if recipe.truncated != "keep":
        what = "stay in the statistics" if recipe.truncated == "mask" else "leave the statistics"
        out.append(("truncated", f"rollouts that were cut off train no token, and {what}", ""))
    method = method_of(recipe.advantage.method)
    out.append(("advantage", f"{method.name}. {_first_line(method.call)}", _settings(recipe.advantage)))
    loss = recipe.objective
    out.append(("objective", f"{type(loss).__name__}. {_first_line(loss)}", _numbers(loss)))
    named = isinstance(recipe.aggregation, str)
    weight = _weight(as_aggregation("explain", recipe.aggregation))
    out.append(("aggregation", f"{recipe.aggregation}. {weight}" if named else weight, ""))
    if recipe.kl is None:
        out.append(("kl", "none", ""))
    else:
        out.append(("kl", f"{type(recipe.kl).__name__}. {_first_line(recipe.kl)}", _numbers(recipe.kl)))
    if recipe.entropy:
        out.append(("entropy", f"L -= {recipe.entropy:g} H_t, the entropy of the policy at each token", ""))
    parts = recipe.correction if isinstance(recipe.correction, tuple) else ()
    out += [("correction", f"{type(part).__name__}. {_first_line(part)}", _numbers(part)) for part in parts]
    return out


def _weight(aggregation: Aggregation) -> str:
    unit = aggregation.unit
    if unit == "token":
        factors = ["trained tokens of the step"]
    else:
        factors = [] if unit == "batch" else [f"{unit}s of the step"]
        if aggregation.within == "mean":
            factors.append("trained tokens" if unit == "batch" else f"trained tokens of its {unit}")
    if aggregation.divisor != 1:
        factors.append(f"{aggregation.divisor:g}")
    return f"A token weighs 1 / ({' * '.join(factors)})" if factors else "A token weighs 1"


def _settings(advantage: Advantage) -> str:
    settings = advantage.settings()
    rules = settings.pop("convention", None)
    parts = []
    if isinstance(rules, Convention):
        changed = {name: settings.pop(name) for name in CONVENTION_FIELDS if name in settings}
        rules = dataclasses.replace(rules, **changed)
        shown = advantage.convention if isinstance(advantage.convention, str) else "its own"
        parts.append(
            f"convention {shown}: ddof {rules.ddof}, eps {rules.eps:g} ({rules.eps_place}), "
            f"group of one {rules.singleton}, no spread {rules.zero_spread}, NaN {rules.nan}"
        )
    elif advantage.convention != "DEFAULT":
        parts.append(f"convention {advantage.convention}")
    return "; ".join([_table(settings), *parts] if settings else parts)


def _numbers(value: Any) -> str:
    names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    return _table({name: item for name in names if (item := getattr(value, name)) is not None})


def _table(items: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in items.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_short, value))})"
    return "none" if value is None else str(value)


def _first_line(value: Any) -> str:
    """The formula of a docstring: its first paragraph, without markup."""
    doc = inspect.getdoc(value) or "no documentation"
    text = " ".join(doc.split("\n\n")[0].split())
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "").rstrip(".")


def _wrapped(name: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, _WIDTH - _NAME, break_long_words=False, break_on_hyphens=False)
    return [f"{name if number == 0 else '':<{_NAME}}{line}" for number, line in enumerate(lines)]


def diff(one: Recipe, other: Recipe) -> str:
    """See :meth:`Recipe.diff`."""
    left, right = _flat(one), _flat(other)
    rows = [("", one.name, other.name)]
    for key in dict.fromkeys([*left, *right]):
        a, b = left.get(key, "-"), right.get(key, "-")
        if a != b and key not in {"name", "source"}:
            rows.append((key, a, b))
    if len(rows) == 1:
        return "same"
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows)


def _flat(recipe: Recipe) -> dict[str, str]:
    """One entry an option, by its path in the table of the recipe."""
    out: dict[str, str] = {}
    named = recipe
    if not isinstance(recipe.advantage.method, str):
        # A function has no form in a table, but it can be compared.
        out["advantage.method"] = recipe.advantage.name
        _spread("advantage.options.", dict(recipe.advantage.options), out)
        named = dataclasses.replace(recipe, advantage=Advantage("group.grpo", convention=recipe.advantage.convention))
    table = to_dict(named)
    if named is not recipe:
        del table["advantage"]["method"]
    _spread("", table, out)
    return out


def _spread(prefix: str, table: dict[str, Any], out: dict[str, str]) -> None:
    for name, value in table.items():
        if isinstance(value, dict):
            _spread(f"{prefix}{name}.", value, out)
        else:
            out[prefix + name] = _short(value)
