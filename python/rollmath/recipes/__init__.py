"""Recipes: named, serialisable compositions of filter, advantage, objective and aggregation."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.recipes._advantage import Advantage
    from rollmath.recipes._batch import Batch
    from rollmath.recipes._get import get, load, names
    from rollmath.recipes._library import (
        CISPO,
        DAPO,
        GIGPO,
        GRPO,
        GSPO,
        HGPO,
        REINFORCE_PP,
        RLOO,
        SALT,
        SPO_TREE,
        STRATIFIED,
        TREE_GRPO,
        TREE_OPO,
        TREE_RL,
        dr_grpo,
    )
    from rollmath.recipes._parts import Filter, Overlong
    from rollmath.recipes._recipe import Recipe

_load, __dir__ = lazy(
    __name__,
    {
        "_advantage": ("Advantage",),
        "_batch": ("Batch",),
        "_get": (
            "get",
            "load",
            "names",
        ),
        "_library": (
            "CISPO",
            "DAPO",
            "GIGPO",
            "GRPO",
            "GSPO",
            "HGPO",
            "REINFORCE_PP",
            "RLOO",
            "SALT",
            "SPO_TREE",
            "STRATIFIED",
            "TREE_GRPO",
            "TREE_OPO",
            "TREE_RL",
            "dr_grpo",
        ),
        "_parts": (
            "Filter",
            "Overlong",
        ),
        "_recipe": ("Recipe",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "CISPO",
    "DAPO",
    "GIGPO",
    "GRPO",
    "GSPO",
    "HGPO",
    "REINFORCE_PP",
    "RLOO",
    "SALT",
    "SPO_TREE",
    "STRATIFIED",
    "TREE_GRPO",
    "TREE_OPO",
    "TREE_RL",
    "Advantage",
    "Batch",
    "Filter",
    "Overlong",
    "Recipe",
    "dr_grpo",
    "get",
    "load",
    "names",
]
