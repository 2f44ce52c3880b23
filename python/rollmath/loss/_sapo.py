"""SAPO: a sigmoid in place of the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over
from rollmath.loss._score import clamped_ratio
from rollmath.loss._tokens import Tokens, above


@dataclass(frozen=True)
class SAPO(Objective):
    r"""Soft adaptive policy optimization: ``L = -A (4 / tau) sigmoid(tau (rho - 1))``, ``rho = exp(theta - prox)``.

    ``tau`` is ``tau_pos`` where ``A > 0``, else ``tau_neg``. The derivative is ``-4 A s (1 - s) rho`` with ``s`` the
    sigmoid: ``-A`` at ``rho = 1`` for any tau, and fading to 0 on both sides, faster for a greater tau, instead of
    stopping at a boundary. The loss at ``rho = 1`` is ``-2 A / tau``, not ``-A``.

    verl, TRL and AReaL agree on this (``A = 0`` falls to ``tau_neg``, where the loss is 0 anyway); verl and TRL fix the
    aggregation ``"seq_mean_token_mean"`` with it, AReaL takes the mean over tokens. verl clamps the log-ratio to plus
    or minus 20, which changes nothing visible: the derivative is below 1e-8 there.

    Attributes:
        tau_pos: temperature of tokens with a positive advantage, positive.
        tau_neg: of the others; greater, because pushing a token down raises many others.
        max_log_ratio: theta - prox is clamped to plus or minus this; beyond it the derivative is 0. None: as it is.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Separable. Counts nothing.

    Raises:
        ValueError: a temperature or bound that is not finite and positive.
        TypeError: one that is no number.

    Source: SAPO, arXiv 2511.20347.

    >>> import torch
    >>> tokens = Tokens.of(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), prox=torch.tensor([-1.0, -3.0]))
    >>> SAPO().token_loss(tokens).gradient
    tensor([-1.0000, -0.0495])
    """

    homogeneous: ClassVar[bool] = True
    tau_pos: float = 1.0
    tau_neg: float = 1.05
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        for name in ("tau_pos", "tau_neg"):
            object.__setattr__(self, name, real("SAPO", name, getattr(self, name), above=0.0))
        object.__setattr__(self, "max_log_ratio", over("SAPO", "max_log_ratio", self.max_log_ratio, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        a = tokens.advantages
        ratio, inside = clamped_ratio(tokens, self.max_log_ratio)
        wanted = above(a, 0)
        tau = (1 - wanted).mul_(self.tau_neg).add_(wanted.mul_(self.tau_pos))
        x = (ratio - 1).mul_(tau)
        gate = x.sigmoid()
        # 1 - s would round to 0 where the ratio is large; the sigmoid of -x does not.
        slope = x.neg_().sigmoid_().mul_(ratio).mul_(gate).mul_(a).mul_(-4).mul_(inside)
        return TokenLoss(gate.mul_(a).div_(tau).mul_(-4), tokens.weighted(slope))
