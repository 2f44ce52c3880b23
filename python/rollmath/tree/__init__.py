"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._arpo import (
        Branching,
        aepo_branch_probability,
        aepo_budget,
        arpo_branch,
        arpo_entropy,
        arpo_hard,
    )
    from rollmath.tree._brpo import brpo, brpo_summary
    from rollmath.tree._credit import PRESETS, Credited, credit
    from rollmath.tree._credit_rule import Credit
    from rollmath.tree._deep_search import deep_search, deep_search_values
    from rollmath.tree._expansion import expansion_nodes
    from rollmath.tree._outside import OutsideSubtree, outside_subtree, probe_only_fresh
    from rollmath.tree._polychromic import Polychromic, polychromic, polychromic_window
    from rollmath.tree._probes import probe_values
    from rollmath.tree._qlass import qlass
    from rollmath.tree._regularized_policy import regularized_policy
    from rollmath.tree._search import frontier_score, puct, uct
    from rollmath.tree._soft_values import er_prm, soft_values
    from rollmath.tree._spo import nonzero_edges, spo
    from rollmath.tree._spo_chain import probability_mask, spo_chain
    from rollmath.tree._spo_prover import prover_advantage, spo_pav
    from rollmath.tree._trajectory_sets import trajectory_sets
    from rollmath.tree._tree_grpo import tree_grpo, tree_grpo_difference
    from rollmath.tree._tree_opo import StagedAdvantage, staged_advantage, tree_opo
    from rollmath.tree._tree_rl import tree_rl
    from rollmath.tree._tree_rpo import tree_rpo
    from rollmath.tree._treepo import treepo, treepo_segment, treepo_spo
    from rollmath.tree._vineppo import vineppo

_load, __dir__ = lazy(
    __name__,
    {
        "_arpo": ("Branching", "aepo_branch_probability", "aepo_budget", "arpo_branch", "arpo_entropy", "arpo_hard"),
        "_brpo": ("brpo", "brpo_summary"),
        "_credit": ("Credited", "PRESETS", "credit"),
        "_credit_rule": ("Credit",),
        "_deep_search": ("deep_search", "deep_search_values"),
        "_expansion": ("expansion_nodes",),
        "_outside": ("OutsideSubtree", "outside_subtree", "probe_only_fresh"),
        "_polychromic": ("Polychromic", "polychromic", "polychromic_window"),
        "_probes": ("probe_values",),
        "_qlass": ("qlass",),
        "_regularized_policy": ("regularized_policy",),
        "_search": ("frontier_score", "puct", "uct"),
        "_soft_values": ("er_prm", "soft_values"),
        "_spo": ("nonzero_edges", "spo"),
        "_spo_chain": ("probability_mask", "spo_chain"),
        "_spo_prover": ("prover_advantage", "spo_pav"),
        "_trajectory_sets": ("trajectory_sets",),
        "_tree_grpo": ("tree_grpo", "tree_grpo_difference"),
        "_tree_opo": ("StagedAdvantage", "staged_advantage", "tree_opo"),
        "_tree_rl": ("tree_rl",),
        "_tree_rpo": ("tree_rpo",),
        "_treepo": ("treepo", "treepo_segment", "treepo_spo"),
        "_vineppo": ("vineppo",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "PRESETS",
    "Branching",
    "Credit",
    "Credited",
    "OutsideSubtree",
    "Polychromic",
    "StagedAdvantage",
    "aepo_branch_probability",
    "aepo_budget",
    "arpo_branch",
    "arpo_entropy",
    "arpo_hard",
    "brpo",
    "brpo_summary",
    "credit",
    "deep_search",
    "deep_search_values",
    "er_prm",
    "expansion_nodes",
    "frontier_score",
    "nonzero_edges",
    "outside_subtree",
    "polychromic",
    "polychromic_window",
    "probability_mask",
    "probe_only_fresh",
    "probe_values",
    "prover_advantage",
    "puct",
    "qlass",
    "regularized_policy",
    "soft_values",
    "spo",
    "spo_chain",
    "spo_pav",
    "staged_advantage",
    "trajectory_sets",
    "tree_grpo",
    "tree_grpo_difference",
    "tree_opo",
    "tree_rl",
    "tree_rpo",
    "treepo",
    "treepo_segment",
    "treepo_spo",
    "uct",
    "vineppo",
]
