"""Policy losses over rows: an objective per token, an aggregation, and a normalizer that no split of the batch changes.

Importing this package imports torch.
"""

from rollmath.loss._normalizer import Normalizer
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._policy_loss import PolicyLoss, policy_loss
from rollmath.loss._ppo import PPO

__all__ = ["PPO", "Normalizer", "Objective", "PolicyLoss", "TokenLoss", "policy_loss"]
