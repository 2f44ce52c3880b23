"""Policy gradients regularised towards the proximal policy without a ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._score import score_loss
from rollmath.loss._tokens import Tokens


@dataclass(frozen=True)
class Quadratic(Objective):
    r"""REINFORCE with a quadratic penalty: ``L = -A logp + (beta / 2) (theta - prox)^2``.

    The derivative is ``-A + beta (theta - prox)``: no importance weight, so rare tokens do not make it explode, and
    the trust region is a spring. It is :class:`Reinforce` plus ``beta`` times the k2 estimate of KL to prox.

    One formula with several names: verl's ``dro`` (``dro_beta``, which has no default), ROLL's ``kimi15`` (its ``tau``,
    0.1). Kimi k1.5 and DRO square the log-ratio of the whole *response*; these trainers, and this, square that of each
    token. Trinity's ``opmd`` is another: :class:`OPMD`.

    Attributes:
        beta: the strength of the penalty, positive. The paper's ``tau``.

    Edge cases:
        A token with ``A = 0`` is pulled back to prox; where theta = prox it has loss 0 and derivative 0. Separable.
        Counts nothing.

    Raises:
        ValueError: ``beta`` that is not finite and positive.
        TypeError: one that is no number.

    Source: Kimi k1.5, arXiv 2501.12599; DRO, arXiv 2405.19107.

    >>> tokens = Tokens.of(torch.tensor([-1.0]), torch.tensor([1.0]), prox=torch.tensor([-3.0]))
    >>> Quadratic(0.1).token_loss(tokens)[:2]
    (tensor([1.2000]), tensor([-0.8000]))
    """

    beta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "beta", real("Quadratic", "beta", self.beta, above=0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        linear = score_loss(tokens, -tokens.advantages)
        loss = torch.addcmul(linear.loss, tokens.log_ratio, tokens.log_ratio, value=self.beta / 2)
        pull = tokens.log_ratio * self.beta
        return TokenLoss(loss, linear.gradient + tokens.weighted(pull))


@dataclass(frozen=True)
class OPMD(Objective):
    r"""Online policy mirror descent as Trinity has it: ``L = -A logp / (1 + tau)``.

    The derivative is ``-A / (1 + tau)``: the regularisation of mirror descent only shortens the step, and prox is not
    read. ``A`` is the reward minus the mean of its group, or minus the soft baseline ``tau log mean exp(r / tau)``.

    Attributes:
        tau: the strength of the regularisation, not negative; 0 is :class:`Reinforce`. 1.0 in Trinity.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Separable. Counts nothing.

    Raises:
        ValueError: ``tau`` that is negative or not finite.
        TypeError: one that is no number.

    Source: Trinity-RFT, arXiv 2505.17826, its ``opmd``; after Kimi k1.5, arXiv 2501.12599.

    >>> OPMD(tau=1.0).token_loss(Tokens.of(torch.tensor([-1.0]), torch.tensor([1.0]))).gradient
    tensor([-0.5000])
    """

    homogeneous: ClassVar[bool] = True
    tau: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tau", real("OPMD", "tau", self.tau, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        return score_loss(tokens, tokens.advantages / -(1 + self.tau))
