"""Simple Policy Optimization: a parabola in place of the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over
from rollmath.loss._score import clamped_ratio
from rollmath.loss._tokens import Tokens, above, finite


@dataclass(frozen=True)
class SimplePO(Objective):
    r"""Simple Policy Optimization: ``L = -(A rho - |A| (rho - 1)^2 / (2 eps))``, ``rho = exp(theta - prox)``.

    A parabola in rho whose optimum is where PPO's clip would begin, ``rho = 1 + sign(A) eps``. The derivative is
    ``-rho (A - |A| (rho - 1) / eps)``: past the optimum it pulls back, where PPO's is 0.

    The loss and its gradient have no bound: at ``rho = 4, A = -1, eps = 0.2`` they are 26.5 and 64. A few tokens that
    the policy has made much likelier since they were sampled can dominate a batch; ``max_log_ratio`` bounds them. (The
    original experiments are control tasks, where ratios stay near 1.)

    "SPO" also names Segment, Self-Play and Single-stream Policy Optimization, which are other things
    (:func:`rollmath.tree.spo` is the first of them).

    Attributes:
        eps: how far from 1 the optimum is, positive.
        max_log_ratio: theta - prox is clamped to plus or minus this; beyond it the derivative is 0. None: as it is.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Separable. Counts ``overshoot``: tokens past the optimum.

    Raises:
        ValueError: an option that is not finite and positive.
        TypeError: one that is no number.

    Source: Xie et al. 2024, arXiv 2401.16025.

    >>> import torch
    >>> tokens = Tokens.of(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), prox=torch.tensor([-1.0, -2.0]))
    >>> SimplePO(eps=0.5).token_loss(tokens).gradient
    tensor([-1.0000,  6.6233])
    """

    homogeneous: ClassVar[bool] = True
    eps: float = 0.2
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", real("SimplePO", "eps", self.eps, above=0.0))
        object.__setattr__(self, "max_log_ratio", over("SimplePO", "max_log_ratio", self.max_log_ratio, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        sign, size = tokens.advantages.sign(), tokens.advantages.abs()
        ratio, inside = clamped_ratio(tokens, self.max_log_ratio)
        step = ratio - 1
        # Of |A| times these; finite, because |A| may be 0.
        loss = finite(step.square().div_(2 * self.eps) - sign * ratio).mul_(size)
        slope = finite((step / self.eps).sub_(sign).mul_(ratio)).mul_(size).mul_(inside)
        counts = {"overshoot": tokens.total(above(step.mul_(sign), self.eps))}
        return TokenLoss(loss, tokens.weighted(slope), counts)
