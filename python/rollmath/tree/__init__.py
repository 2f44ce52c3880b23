"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._spo import nonzero_edges, spo
    from rollmath.tree._tree_opo import StagedAdvantage, staged_advantage, tree_opo

_load, __dir__ = lazy(
    __name__,
    {
        "_spo": ("nonzero_edges", "spo"),
        "_tree_opo": ("StagedAdvantage", "staged_advantage", "tree_opo"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "StagedAdvantage",
    "nonzero_edges",
    "spo",
    "staged_advantage",
    "tree_opo",
]
