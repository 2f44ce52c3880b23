"""PPO for replayed data: the ratio to the sampler, the trust region around the latest policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._score import behaviour_of
from rollmath.loss._tokens import Tokens, above, below, equal, exp


@dataclass(frozen=True)
class ShiftedClip(Objective):
    r"""Clip around the latest policy: ``L = max(-A rho, -A clip(rho, max(c - eps, 0), c + eps))``.

    ``rho = exp(theta - behaviour)`` is the ratio to the policy that sampled, perhaps long ago, and
    ``c = exp(prox - behaviour)`` where the latest policy stands on the same scale. PPO's clip around 1 would forbid
    returning to the latest policy; here a fresh step may be taken from it, and the estimate is still corrected for the
    sampler. With behaviour = prox it is ``PPO(clip=eps)``.

    The derivative is ``-A rho``, and 0 where ``A > 0`` and ``rho > c + eps`` or ``A < 0`` and ``rho < c - eps``.
    :class:`DecoupledPPO` is the other way to use three policies: its region is relative, ``c (1 - eps)`` to
    ``c (1 + eps)``.

    Attributes:
        eps: half the width of the region, in units of rho, positive.

    Edge cases:
        Without prox theta is its own center and nothing is clipped. A token with ``A = 0`` has loss 0 and derivative
        0. Exactly on a boundary the derivative is that of the unclipped side. Separable. Counts ``clip_high`` and
        ``clip_low``.

    Raises:
        ValueError: ``eps`` that is not finite and positive; log-probabilities without behaviour.
        TypeError: ``eps`` that is no number.

    Source: Queeney et al. 2021 (GePPO), arXiv 2111.00072; off-policy GRPO, arXiv 2505.22257; ReMix, arXiv 2507.06892.
    From secondary descriptions: the formula in these papers is unverified.

    >>> policies = {"prox": torch.tensor([-1.0]), "behaviour": torch.tensor([-2.0])}
    >>> out = ShiftedClip(0.2).token_loss(Tokens.of(torch.tensor([-0.5]), torch.tensor([1.0]), **policies))
    >>> out.loss, out.gradient  # c is e, and rho over e + 0.2
    (tensor([-2.9183]), tensor([0.]))
    """

    homogeneous: ClassVar[bool] = True
    eps: float = 0.2

    def __post_init__(self) -> None:
        object.__setattr__(self, "eps", real("ShiftedClip", "eps", self.eps, above=0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        behaviour, a = behaviour_of("ShiftedClip", tokens), tokens.advantages
        ratio, center = exp(tokens.theta - behaviour), exp(tokens.prox - behaviour)
        low = torch.maximum(ratio, (center - self.eps).clamp_(min=0))
        high = torch.minimum(ratio, center + self.eps)
        want, gain = a.clamp(min=0), (-a).clamp(min=0)
        loss = torch.addcmul(gain * low, want, high, value=-1)
        inside_low, inside_high = equal(low, ratio), equal(high, ratio)
        slope = torch.addcmul(gain * inside_low, want, inside_high, value=-1).mul_(ratio)
        # No comparison with a center that is NaN holds, which would leave a derivative of 0.
        slope.add_(center, alpha=0)
        counts = {
            "clip_high": tokens.total(above(a, 0).mul_(below(high, ratio))),
            "clip_low": tokens.total(below(a, 0).mul_(above(low, ratio))),
        }
        return TokenLoss(loss, tokens.weighted(slope), counts)
