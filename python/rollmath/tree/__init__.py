"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._deep_search import deep_search, deep_search_values
    from rollmath.tree._expansion import expansion_nodes
    from rollmath.tree._polychromic import Polychromic, polychromic, polychromic_window
    from rollmath.tree._qlass import qlass
    from rollmath.tree._regularized_policy import regularized_policy
    from rollmath.tree._search import frontier_score, puct, uct
    from rollmath.tree._soft_values import er_prm, soft_values
    from rollmath.tree._spo import nonzero_edges, spo
    from rollmath.tree._trajectory_sets import trajectory_sets

_load, __dir__ = lazy(
    __name__,
    {
        "_deep_search": ("deep_search", "deep_search_values"),
        "_expansion": ("expansion_nodes",),
        "_polychromic": ("Polychromic", "polychromic", "polychromic_window"),
        "_qlass": ("qlass",),
        "_regularized_policy": ("regularized_policy",),
        "_search": ("frontier_score", "puct", "uct"),
        "_soft_values": ("er_prm", "soft_values"),
        "_spo": ("nonzero_edges", "spo"),
        "_trajectory_sets": ("trajectory_sets",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "Polychromic",
    "deep_search",
    "deep_search_values",
    "er_prm",
    "expansion_nodes",
    "frontier_score",
    "nonzero_edges",
    "polychromic",
    "polychromic_window",
    "puct",
    "qlass",
    "regularized_policy",
    "soft_values",
    "spo",
    "trajectory_sets",
    "uct",
]
