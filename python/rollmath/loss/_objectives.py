"""What an objective is: a loss a token and its derivative in closed form."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch


class TokenLoss(NamedTuple):
    """One value a token each, without gradient.

    Attributes:
        loss: the loss L to minimise.
        coefficient: its derivative with respect to the log-probability of the token under theta.
        ratio: theta over prox, as the loss used it.
        log_ratio: its logarithm.
        clipped: bool, where the clip took the gradient away.
        dual_clipped: bool, where the dual clip did.
    """

    loss: torch.Tensor
    coefficient: torch.Tensor
    ratio: torch.Tensor
    log_ratio: torch.Tensor
    clipped: torch.Tensor
    dual_clipped: torch.Tensor


@runtime_checkable
class Objective(Protocol):
    """Anything with this method is an objective, a frozen dataclass of your own too."""

    def token_loss(self, theta: torch.Tensor, prox: torch.Tensor, advantages: torch.Tensor) -> TokenLoss:
        """Loss and coefficient of each token, from tensors of one shape that carry no gradient."""
        ...
