"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  so that a missing torch is said here, not at the first use

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.loss._aggregate import Aggregation
    from rollmath.loss._cov import ClipCov, KLCov
    from rollmath.loss._gmpo import GMPO
    from rollmath.loss._gspo import GSPO, LUSPO
    from rollmath.loss._lp_reg import LpReg
    from rollmath.loss._metrics import LossMetrics
    from rollmath.loss._normalizer import Normalizer
    from rollmath.loss._objectives import Objective, TokenLoss
    from rollmath.loss._policy_loss import PolicyLoss, policy_loss
    from rollmath.loss._ppo import PPO
    from rollmath.loss._terms import Correction, EntropyBonus
    from rollmath.loss._tokens import Tokens
    from rollmath.loss._vespo import VESPO

_load, __dir__ = lazy(
    __name__,
    {
        "_aggregate": ("Aggregation",),
        "_cov": (
            "ClipCov",
            "KLCov",
        ),
        "_gmpo": ("GMPO",),
        "_gspo": (
            "GSPO",
            "LUSPO",
        ),
        "_lp_reg": ("LpReg",),
        "_metrics": ("LossMetrics",),
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
        "_vespo": ("VESPO",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "GMPO",
    "GSPO",
    "LUSPO",
    "PPO",
    "VESPO",
    "Aggregation",
    "ClipCov",
    "Correction",
    "EntropyBonus",
    "KLCov",
    "LossMetrics",
    "LpReg",
    "Normalizer",
    "Objective",
    "PolicyLoss",
    "TokenLoss",
    "Tokens",
    "policy_loss",
]
