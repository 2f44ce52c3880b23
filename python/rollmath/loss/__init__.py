"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  so that a missing torch is said here, not at the first use

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.loss._aggregate import Aggregation
    from rollmath.loss._cispo import CISPO
    from rollmath.loss._decoupled_ppo import DecoupledPPO
    from rollmath.loss._dppo import DPPO
    from rollmath.loss._metrics import LossMetrics
    from rollmath.loss._nft import NFT
    from rollmath.loss._normalizer import Normalizer
    from rollmath.loss._objectives import Objective, TokenLoss
    from rollmath.loss._policy_loss import PolicyLoss, policy_loss
    from rollmath.loss._ppo import PPO
    from rollmath.loss._quadratic import OPMD, Quadratic
    from rollmath.loss._reinforce import Reinforce
    from rollmath.loss._sapo import SAPO
    from rollmath.loss._shifted_clip import ShiftedClip
    from rollmath.loss._simple_po import SimplePO
    from rollmath.loss._terms import Correction, EntropyBonus
    from rollmath.loss._tokens import Tokens
    from rollmath.loss._topr import TOPR

_load, __dir__ = lazy(
    __name__,
    {
        "_aggregate": ("Aggregation",),
        "_cispo": ("CISPO",),
        "_decoupled_ppo": ("DecoupledPPO",),
        "_dppo": ("DPPO",),
        "_metrics": ("LossMetrics",),
        "_nft": ("NFT",),
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
        "_quadratic": (
            "OPMD",
            "Quadratic",
        ),
        "_reinforce": ("Reinforce",),
        "_sapo": ("SAPO",),
        "_shifted_clip": ("ShiftedClip",),
        "_simple_po": ("SimplePO",),
        "_terms": (
            "Correction",
            "EntropyBonus",
        ),
        "_tokens": ("Tokens",),
        "_topr": ("TOPR",),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "CISPO",
    "DPPO",
    "NFT",
    "OPMD",
    "PPO",
    "SAPO",
    "TOPR",
    "Aggregation",
    "Correction",
    "DecoupledPPO",
    "EntropyBonus",
    "LossMetrics",
    "Normalizer",
    "Objective",
    "PolicyLoss",
    "Quadratic",
    "Reinforce",
    "ShiftedClip",
    "SimplePO",
    "TokenLoss",
    "Tokens",
    "policy_loss",
]
