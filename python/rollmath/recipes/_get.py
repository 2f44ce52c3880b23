"""Recipes by name."""

from __future__ import annotations

from rollmath.recipes._library import DAPO, GRPO, RLOO
from rollmath.recipes._options import nearest
from rollmath.recipes._recipe import Recipe

_KNOWN = {recipe.name: recipe for recipe in (GRPO, DAPO, RLOO)}


def names() -> tuple[str, ...]:
    """The names of the recipes."""
    return tuple(_KNOWN)


def get(recipe: str) -> Recipe:
    """The recipe of that name."""
    if recipe not in _KNOWN:
        msg = f"get(): 'recipe' must be one of {nearest(recipe, _KNOWN)}, got {recipe!r}"
        raise ValueError(msg)
    return _KNOWN[recipe]
