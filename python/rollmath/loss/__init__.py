"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from typing import TYPE_CHECKING

import torch as _torch  # noqa: F401  so that a missing torch is said here, not at the first use

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.loss._disco import TrustRegion, disco, disco_constraint, drpo
    from rollmath.loss._flowrl import FlowLoss, flowrl
    from rollmath.loss._group_loss import GroupLoss
    from rollmath.loss._normalizer import Normalizer
    from rollmath.loss._objectives import Objective, TokenLoss
    from rollmath.loss._pairwise import copg, gvpo, rebel
    from rollmath.loss._policy_loss import PolicyLoss, policy_loss
    from rollmath.loss._ppo import PPO
    from rollmath.loss._process_q import process_q
    from rollmath.loss._real import real
    from rollmath.loss._regression import a_star_po, tbrm

_load, __dir__ = lazy(
    __name__,
    {
        "_disco": (
            "TrustRegion",
            "disco",
            "disco_constraint",
            "drpo",
        ),
        "_flowrl": (
            "FlowLoss",
            "flowrl",
        ),
        "_group_loss": ("GroupLoss",),
        "_normalizer": ("Normalizer",),
        "_objectives": (
            "Objective",
            "TokenLoss",
        ),
        "_pairwise": (
            "copg",
            "gvpo",
            "rebel",
        ),
        "_policy_loss": (
            "PolicyLoss",
            "policy_loss",
        ),
        "_ppo": ("PPO",),
        "_process_q": ("process_q",),
        "_real": ("real",),
        "_regression": (
            "a_star_po",
            "tbrm",
        ),
    },
)
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load

__all__ = [
    "PPO",
    "FlowLoss",
    "GroupLoss",
    "Normalizer",
    "Objective",
    "PolicyLoss",
    "TokenLoss",
    "TrustRegion",
    "a_star_po",
    "copg",
    "disco",
    "disco_constraint",
    "drpo",
    "flowrl",
    "gvpo",
    "policy_loss",
    "process_q",
    "real",
    "rebel",
    "tbrm",
]
