"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._credit import PRESETS, Credit, Credited, credit
    from rollmath.tree._outside import OutsideSubtree, outside_subtree, probe_only_fresh
    from rollmath.tree._spo import nonzero_edges, spo

_load, __dir__ = lazy(
    __name__,
    {
        "_credit": ("PRESETS", "Credit", "Credited", "credit"),
        "_outside": ("OutsideSubtree", "outside_subtree", "probe_only_fresh"),
        "_spo": ("nonzero_edges", "spo"),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "PRESETS",
    "Credit",
    "Credited",
    "OutsideSubtree",
    "credit",
    "nonzero_edges",
    "outside_subtree",
    "probe_only_fresh",
    "spo",
]
