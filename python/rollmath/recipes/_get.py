"""Recipes by name, from tables and from files."""

from __future__ import annotations

import importlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollmath._arrays import describe
from rollmath.recipes._library import LIBRARY
from rollmath.recipes._method import imported
from rollmath.recipes._options import nearest
from rollmath.recipes._recipe import Recipe
from rollmath.recipes._serial import FIELDS, from_dict, laid_over, to_dict


def names() -> tuple[str, ...]:
    """The names of the recipes of the library.

    >>> names()
    ('grpo', 'dr_grpo', 'dapo', 'gspo', 'cispo', 'reinforce_pp', 'rloo', 'stratified_grpo', 'spo_tree', 'tree_rl',
     'tree_grpo', 'tree_opo', 'gigpo', 'hgpo', 'salt')
    """
    return tuple(LIBRARY)


def get(recipe: str | Mapping[str, Any] | Recipe, **changes: Any) -> Recipe:
    """A recipe by its name, or from a table.

    A table is a mapping of any kind (a dict, what a TOML or YAML file holds, an OmegaConf ``DictConfig``). With the key
    ``recipe`` it says what is different from that recipe, option by option::

        {"recipe": "dapo", "objective": {"clip": [0.2, 0.3]}, "convention": "VERL", "filter": False}

    Without, it is a whole recipe, as :meth:`Recipe.to_dict` gives it. A part whose ``type`` (objective, kl,
    correction) or ``method`` (advantage, filter) is another one is replaced, not merged; False leaves a part out.

    Args:
        recipe: a name in :func:`names`, the import path ``"package.module:RECIPE"`` of your own, a table, or a recipe.
        **changes: the same keys as in a table, and the settings of the recipe: ``max_length``, which ``dr_grpo`` needs
            (its constant), and for which ``dapo`` adds its penalty on long responses.

    Raises:
        ValueError: an unknown name, key or choice; a setting that is missing.
        TypeError: what is no table; an option that a part does not have.

    >>> get("dapo", objective={"clip": [0.2, 0.3]}).objective
    PPO(clip=(0.2, 0.3), dual_clip=None, delta=None, max_log_ratio=None)
    >>> get({"recipe": "dr_grpo", "max_length": 3000}).aggregation.divisor
    3000.0
    """
    who = "get"
    if isinstance(recipe, Mapping):
        table = dict(recipe.items())
        name = table.pop("recipe", None)
        changes = {**table, **changes}
    elif isinstance(recipe, (str, Recipe)):
        name = recipe
    else:
        msg = f"{who}(): 'recipe' must be a name, a table or a Recipe, got {describe(recipe)}"
        raise TypeError(msg)
    if name is None:
        return from_dict(who, changes)
    base, rest = _base(who, name, changes)
    if not rest:
        return base
    return from_dict(who, laid_over(who, to_dict(base), rest))


def _base(who: str, name: Any, changes: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe to start from, and what is no setting of it."""
    if isinstance(name, Recipe):
        return name, changes
    if isinstance(name, str) and ":" in name:
        found = imported(who, "recipe", name)
        if not isinstance(found, Recipe):
            msg = f"{who}(): 'recipe' must lead to a Recipe, got {describe(found)} at {name!r}"
            raise TypeError(msg)
        return found, changes
    if not isinstance(name, str) or name not in LIBRARY:
        msg = f"{who}(): 'recipe' must be one of {nearest(str(name), LIBRARY)}, got {name!r}"
        raise ValueError(msg)
    entry = LIBRARY[name]
    settings = {key: changes[key] for key in entry.settings if changes.get(key) is not None}
    for key, required in entry.settings.items():
        if required and key not in settings:
            msg = (
                f"{who}(): recipe {name!r} needs {key!r}, the constant that its loss divides by (tokens that a "
                f"response may have at most): get({name!r}, {key}=4096), or in a table {key} = 4096"
            )
            raise ValueError(msg)
    rest = {key: value for key, value in changes.items() if key not in entry.settings}
    known = (*FIELDS, "convention", *entry.settings)
    for key in rest:
        if key not in known:
            msg = f"{who}(): recipe {name!r} has no {key!r}; it has: {nearest(key, known)}"
            raise ValueError(msg)
    return entry.make(**settings), rest


def load(path: str | Path, *, table: str | None = None) -> Recipe:
    """The recipe in a TOML, JSON or YAML file.

    Args:
        path: a file that ends in ``.toml``, ``.json``, ``.yaml`` or ``.yml``; YAML needs PyYAML.
        table: where in the file the recipe is, such as ``"trainer.recipe"``; default: the whole file.

    Raises:
        ValueError: another ending; no such table; what :func:`get` refuses.
        ModuleNotFoundError: YAML without PyYAML.
    """
    who, file = "load", Path(path)
    if file.suffix == ".toml":
        content: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    elif file.suffix == ".json":
        content = json.loads(file.read_text(encoding="utf-8"))
    elif file.suffix in {".yaml", ".yml"}:
        try:
            yaml = importlib.import_module("yaml")
        except ModuleNotFoundError:
            msg = f"{who}(): {file.name!r} needs PyYAML to be read: pip install pyyaml, or write it as .toml or .json"
            raise ModuleNotFoundError(msg, name="yaml") from None
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    else:
        msg = f"{who}(): 'path' must end in .toml, .json, .yaml or .yml, got {file.name!r}"
        raise ValueError(msg)
    for key in table.split(".") if table else ():
        if not isinstance(content, Mapping) or key not in content:
            there = nearest(key, map(str, content)) if isinstance(content, Mapping) else "none"
            msg = f"{who}(): 'table' {table!r} is not in {file.name!r}: no {key!r} among {there}"
            raise ValueError(msg)
        content = content[key]
    return get(content)
