"""Advantages of branches: one number a node or a rollout of a forest. One file per method family."""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.tree._brpo import brpo, brpo_summary
    from rollmath.tree._probes import probe_values
    from rollmath.tree._spo import nonzero_edges, spo
    from rollmath.tree._spo_chain import probability_mask, spo_chain
    from rollmath.tree._spo_prover import prover_advantage, spo_pav
    from rollmath.tree._vineppo import vineppo
    from rollmath.tree._tree_opo import StagedAdvantage, staged_advantage, tree_opo
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
        "_brpo": ("brpo", "brpo_summary"),
        "_probes": ("probe_values",),
        "_spo": ("nonzero_edges", "spo"),
        "_spo_chain": ("probability_mask", "spo_chain"),
        "_spo_prover": ("prover_advantage", "spo_pav"),
        "_vineppo": ("vineppo",),
        "_tree_opo": ("StagedAdvantage", "staged_advantage", "tree_opo"),
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
    "brpo",
    "brpo_summary",
    "StagedAdvantage",
    "Branching",
    "aepo_branch_probability",
    "aepo_budget",
    "arpo_branch",
    "arpo_entropy",
    "arpo_hard",
    "nonzero_edges",
    "probability_mask",
    "probe_values",
    "prover_advantage",
    "spo",
    "spo_chain",
    "spo_pav",
    "vineppo",
    "staged_advantage",
    "tree_opo",
    "tree_grpo",
    "tree_grpo_difference",
    "tree_rl",
    "tree_rpo",
    "treepo",
    "treepo_segment",
    "treepo_spo",
]
