"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._credit import PRESETS, Credit, Credited, credit
    from rollmath.tree._outside import OutsideSubtree, outside_subtree, probe_only_fresh
    from rollmath.tree._arpo import (
        Branching,
        aepo_branch_probability,
        aepo_budget,
        arpo_branch,
        arpo_entropy,
        arpo_hard,
    )
    from rollmath.tree._spo import nonzero_edges, spo
    from rollmath.tree._tree_grpo import tree_grpo, tree_grpo_difference
    from rollmath.tree._tree_rl import tree_rl
    from rollmath.tree._tree_rpo import tree_rpo
    from rollmath.tree._treepo import treepo, treepo_segment, treepo_spo

_load, __dir__ = lazy(
    __name__,
    {
        "_credit": ("PRESETS", "Credit", "Credited", "credit"),
        "_outside": ("OutsideSubtree", "outside_subtree", "probe_only_fresh"),
        "_arpo": ("Branching", "aepo_branch_probability", "aepo_budget", "arpo_branch", "arpo_entropy", "arpo_hard"),
        "_spo": ("nonzero_edges", "spo"),
        "_tree_grpo": ("tree_grpo", "tree_grpo_difference"),
        "_tree_rl": ("tree_rl",),
        "_tree_rpo": ("tree_rpo",),
        "_treepo": ("treepo", "treepo_segment", "treepo_spo"),
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
    "Branching",
    "aepo_branch_probability",
    "aepo_budget",
    "arpo_branch",
    "arpo_entropy",
    "arpo_hard",
    "nonzero_edges",
    "outside_subtree",
    "probe_only_fresh",
    "spo",
    "tree_grpo",
    "tree_grpo_difference",
    "tree_rl",
    "tree_rpo",
    "treepo",
    "treepo_segment",
    "treepo_spo",
]
