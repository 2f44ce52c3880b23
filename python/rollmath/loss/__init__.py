"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  so that a missing torch is said here, not at the first use

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.loss._aggregate import Aggregation
    from rollmath.loss._metrics import LossMetrics
    from rollmath.loss._mismatch_compose import Corrections
    from rollmath.loss._mismatch_gate import Gate
    from rollmath.loss._mismatch_report import MismatchReport, correction_weights, mismatch, mismatch_report
    from rollmath.loss._mismatch_staleness import Staleness
    from rollmath.loss._mismatch_weight import ImportanceWeight, WeightPart
    from rollmath.loss._normalizer import Normalizer
    from rollmath.loss._objectives import Objective, TokenLoss
    from rollmath.loss._policy_loss import PolicyLoss, policy_loss
    from rollmath.loss._ppo import PPO
    from rollmath.loss._terms import Correction, EntropyBonus
    from rollmath.loss._tokens import Tokens

_load, __dir__ = lazy(
    __name__,
    {
        "_aggregate": ("Aggregation",),
        "_metrics": ("LossMetrics",),
        "_mismatch_compose": ("Corrections",),
        "_mismatch_gate": ("Gate",),
        "_mismatch_report": (
            "MismatchReport",
            "correction_weights",
            "mismatch",
            "mismatch_report",
        ),
        "_mismatch_staleness": ("Staleness",),
        "_mismatch_weight": (
            "ImportanceWeight",
            "WeightPart",
        ),
        "_normalizer": ("Normalizer",),
        "_objectives": (
            "Objective",
            "TokenLoss",
        ),
        "_policy_loss": (
            "PolicyLoss",
            "policy_loss",
        ),
        "_ppo": ("PPO",),
        "_terms": (
            "Correction",
            "EntropyBonus",
        ),
        "_tokens": ("Tokens",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "PPO",
    "Aggregation",
    "Correction",
    "Corrections",
    "EntropyBonus",
    "Gate",
    "ImportanceWeight",
    "LossMetrics",
    "MismatchReport",
    "Normalizer",
    "Objective",
    "PolicyLoss",
    "Staleness",
    "TokenLoss",
    "Tokens",
    "WeightPart",
    "correction_weights",
    "mismatch",
    "mismatch_report",
    "policy_loss",
]
