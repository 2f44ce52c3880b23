"""Recipes in words: what a recipe computes, and how two of them differ."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Collection
from typing import Any

from rollmath.conventions import Convention, Whiten
from rollmath.loss import KL, Aggregation
from rollmath.loss._aggregate import as_aggregation
from rollmath.recipes._advantage import Advantage
from rollmath.recipes._library import base_of
from rollmath.recipes._method import CONVENTION_FIELDS, SUPPLIED, method_of
from rollmath.recipes._parts import Filter
from rollmath.recipes._recipe import Recipe
from rollmath.recipes._serial import to_dict

#: Columns of an explanation, and of the names in it.
_WIDTH, _NAME = 100, 13
#: K of the KL term, of d = theta - ref.
ESTIMATORS = {"k1": "d", "k2": "d^2 / 2", "k3": "exp(-d) + d - 1", "abs": "|d|"}


def explain(recipe: Recipe) -> str:
    """See :meth:`Recipe.explain`."""
    known, origin = base_of(recipe) or (recipe, {})
    lines = [f"{recipe.name}" + (f": {recipe.source}" if recipe.source else "")]
    for part, text, numbers in _parts(recipe):
        changed = getattr(recipe, part) != getattr(known, part)
        if not (text or changed or part == "kl" or part in origin):
            continue
        lines += _wrapped(part, text or "none")
        lines += _wrapped("", numbers) if numbers else []
        if changed:
            lines += _wrapped("", f"[changed: {_changes(part, recipe, known)}]")
        elif part in origin:
            lines += _wrapped("", f"[{origin[part]}]")
    for name, meaning in recipe.needs.items():
        lines += _wrapped("needs", f"{name}: {meaning}")
    return "\n".join(lines)


def _changes(part: str, recipe: Recipe, known: Recipe) -> str:
    if part == "aggregation" and known.name == "dr_grpo" and isinstance(recipe.aggregation, str):
        # Of the constant that it was made with nothing is left.
        return "was a sum over tokens / (rows of the step * max_length)"
    now, before = _flat(recipe), _flat(known)
    of_part = [key for key in dict.fromkeys([*before, *now]) if key.split(".")[0] == part]
    keys = [key for key in of_part if now.get(key) != before.get(key)]
    default = next(f.default for f in dataclasses.fields(recipe) if f.name == part)
    unset = _short(default) if part in keys and not before.get(part) else "not there"
    return "; ".join(f"{key.removeprefix(part + '.')} was {before.get(key, unset)}" for key in keys)


def _parts(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Name, formula and numbers of each part, in the order in which they act; no formula where there is none."""
    out = []
    text, numbers = "", ""
    if recipe.overlong is not None:
        text, numbers = _first_line(method_of("group.overlong_penalty").call), _numbers(recipe.overlong)
    out.append(("overlong", text, numbers))
    each = "at each trained token" if recipe.advantage.per_token else "summed over the trained tokens of the rollout"
    out.append(("reward_kl", f"r -= {recipe.reward_kl:g} (logp - ref), {each}" if recipe.reward_kl else "", ""))
    text, numbers = "", ""
    if recipe.filter is not None:
        text = f"{recipe.filter.method}. {_first_line(recipe.filter.function)}"
        numbers = _of_filter(recipe.filter)
    out.append(("filter", text, numbers))
    what = "stay in the statistics" if recipe.truncated == "mask" else "leave the statistics"
    text = f"rollouts that were cut off train no token, and {what}" if recipe.truncated != "keep" else ""
    out.append(("truncated", text, ""))
    method = method_of(recipe.advantage.method)
    numbers, start = _settings(recipe.advantage), recipe.advantage.start
    if start is not None:
        numbers += f"\nof {start.name}. {_first_line(method_of(start.method).call)}\n{_settings(start)}"
    out.append(("advantage", f"{method.name}. {_first_line(method.call)}", numbers))
    each = "in the first rollout that is trained" if recipe.shared == "once" else "in every rollout that has it"
    out.append(("shared", f"a token that rollouts share trains {each}" if recipe.advantage.of_rollouts else "", ""))
    out.append(("zeros", "tokens with advantage 0 do not train" if recipe.zeros == "drop" else "", ""))
    loss = recipe.objective
    out.append(("objective", f"{type(loss).__name__}. {_first_line(loss)}", _numbers(loss)))
    named = isinstance(recipe.aggregation, str)
    weight = _weight(as_aggregation("explain", recipe.aggregation))
    out.append(("aggregation", f"{recipe.aggregation}. {weight}" if named else weight, ""))
    text, numbers = "", ""
    if recipe.kl is not None:
        text, numbers = f"{type(recipe.kl).__name__}. {_first_line(recipe.kl)}", _numbers(recipe.kl)
        if isinstance(recipe.kl, KL):
            text += f", with K(d) = {ESTIMATORS[recipe.kl.kind]}"
    out.append(("kl", text, numbers))
    bonus = f"L -= {recipe.entropy:g} H_t, the entropy of the policy at each token"
    out.append(("entropy", bonus if recipe.entropy else "", ""))
    parts = recipe.correction if isinstance(recipe.correction, tuple) else ()
    out += [("correction", f"{type(part).__name__}. {_first_line(part)}", _numbers(part)) for part in parts]
    return out if parts else [*out, ("correction", "", "")]


def _of_filter(part: Filter) -> str:
    known = {**_defaults(part.function, {"nan"}), **part.options}
    shown = {name: known.pop(name) for name in part.signature.options if name in known} | known
    if part.signature.values is not None:
        shown["on"] = part.on
    if part.draws:
        shown["seed"] = "that of the step"
    text = _table(shown)
    meaning = {
        "after": "means and spreads of the advantages are those of the rollouts that are kept",
        "before": "means and spreads of the advantages are those of all rollouts that may take part",
    }
    taken = part.taken
    return f"{text}\nstatistics {taken}: {meaning[taken]}" if taken is not None else text


def _defaults(function: Any, leave: Collection[str] = ()) -> dict[str, Any]:
    """Options of a function that nobody gives, as far as they say something."""
    parameters = inspect.signature(function).parameters.values()
    leave = {*SUPPLIED, *leave}
    plain = (bool, int, float, str, Whiten)
    return {p.name: p.default for p in parameters if p.name not in leave and isinstance(p.default, plain)}


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
    method = method_of(advantage.method)
    settings = {**_defaults(method.call), **advantage.settings()}
    rules = settings.pop("convention", None)
    parts = []
    if isinstance(rules, Convention):
        changed = {name: settings.pop(name) for name in CONVENTION_FIELDS if name in settings}
        rules = dataclasses.replace(rules, **changed)
        shown = advantage.convention if isinstance(advantage.convention, str) else "its own"
        scaled = f"ddof {rules.ddof}, eps {rules.eps:g} ({rules.eps_place}), "
        only = _only(method.call)
        if only or settings.get("scale") == "none":
            scaled = ""
        words = {"singleton": f"group of one {rules.singleton}", "nan": f"NaN {rules.nan}"}
        if not only and scaled:
            words = {"singleton": words["singleton"], "zero_spread": f"no spread {rules.zero_spread}", **words}
        kept = [text for name, text in words.items() if not only or name in only]
        parts.append(f"convention {shown}: {scaled}{', '.join(kept)}")
    elif advantage.convention != "DEFAULT":
        parts.append(f"convention {advantage.convention}")
    return "; ".join([_table(settings), *parts] if settings else parts)


def _only(function: Any) -> set[str]:
    """Fields of the convention that its documentation says are all that matter; none if it does not."""
    found = re.search(r"only ((?:``\w+``(?: and )?)+) matters?", " ".join((inspect.getdoc(function) or "").split()))
    return set(re.findall(r"``(\w+)``", found[1])) if found else set()


def _numbers(value: Any) -> str:
    names = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    return _table({name: item for name in names if (item := getattr(value, name)) is not None})


def _table(items: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_short(value)}" for name, value in items.items())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Whiten):
        return f"({_numbers(value)})"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_short, value))})"
    return "none" if value is None else str(value)


def _first_line(value: Any) -> str:
    """The formula of a docstring: its first paragraph, without markup."""
    doc = inspect.getdoc(value) or "no documentation"
    text = " ".join(doc.split("\n\n")[0].split())
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "").rstrip(".")


def _wrapped(name: str, text: str) -> list[str]:
    width = _WIDTH - _NAME
    parts = [textwrap.wrap(part, width, break_long_words=False, break_on_hyphens=False) for part in text.split("\n")]
    lines = [line for part in parts for line in part]
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
    advantage = recipe.advantage
    parts = [x for x in (advantage, advantage.start) if x is not None]
    if all(isinstance(x.method, str) for x in parts):
        _spread("", to_dict(recipe), out)
        return out
    # A function has no form in a table, but it can be compared.
    for prefix, x in zip(("advantage.", "advantage.base."), parts, strict=False):
        out[f"{prefix}method"] = x.name
        _spread(f"{prefix}options.", dict(x.options), out)
    stand_in = Advantage("group.grpo", convention=advantage.convention)
    table = to_dict(dataclasses.replace(recipe, advantage=stand_in, shared="per_rollout"))
    del table["advantage"]["method"]
    if recipe.shared != "per_rollout":
        table["shared"] = recipe.shared
    _spread("", table, out)
    return out


def _spread(prefix: str, table: dict[str, Any], out: dict[str, str]) -> None:
    for name, value in table.items():
        if isinstance(value, dict):
            _spread(f"{prefix}{name}.", value, out)
        else:
            out[prefix + name] = _short(value)
