"""Decoupled PPO: the clip around the proximal policy, a weight for the policy that sampled."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import ClassVar, Literal

from rollmath._arrays import choice
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import bounds_of, over
from rollmath.loss._ppo import PPO
from rollmath.loss._score import behaviour_of
from rollmath.loss._tokens import Tokens, above, exp, finite


@dataclass(frozen=True)
class DecoupledPPO(Objective):
    r"""PPO times the weight of the proximal policy: ``L = w max(-A rho, -A clip(rho, 1 - lo, 1 + hi))``.

    ``rho = exp(theta - prox)`` and ``w = exp(prox - behaviour)``, a constant: the estimate is corrected for the policy
    that sampled, while the trust region is around a fresher one. The derivative is ``w`` times that of :class:`PPO`. A
    correction of the mismatch beside ``PPO`` does the same; this is the method under its name.

    Attributes:
        clip: as in :class:`PPO`.
        dual_clip: as in :class:`PPO`.
        cap: bound of w, positive, or None as in the paper. AReaL's examples have 5.0.
        outside: what happens where ``w > cap``: ``"zero"`` gives the token weight 0, ``"truncate"`` weight cap. In
            AReaL these were ``token_mask`` and ``token_truncate``, and are the actions ``mask`` and ``clamp`` of its
            rejection sampling now. A masked token still counts in the mean, there and here.

    Edge cases:
        Without prox, w is the ratio of theta to behaviour, detached, and rho is 1. A token with ``A = 0``, or masked,
        has loss 0 and derivative 0, and is not counted as clipped. Separable. Counts those of :class:`PPO` and
        ``over_cap``.

    Raises:
        ValueError: a bound out of range, an unknown ``outside``, log-probabilities without behaviour.
        TypeError: a bound that is no number.

    Source: Hilton et al. 2021, arXiv 2110.00641; AReaL, arXiv 2505.24298.

    >>> import torch
    >>> policies = {"prox": torch.tensor([-1.0, -1.0]), "behaviour": torch.tensor([-2.0, -1.5])}
    >>> tokens = Tokens.of(torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), **policies)
    >>> DecoupledPPO(cap=2.0).token_loss(tokens).gradient
    tensor([ 0.0000, -1.6487])
    """

    homogeneous: ClassVar[bool] = True
    clip: tuple[float, float] | float = (0.2, 0.2)
    dual_clip: float | None = None
    cap: float | None = None
    outside: Literal["zero", "truncate"] = "zero"

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip", bounds_of("DecoupledPPO", "clip", self.clip))
        object.__setattr__(self, "dual_clip", over("DecoupledPPO", "dual_clip", self.dual_clip, 1.0))
        object.__setattr__(self, "cap", over("DecoupledPPO", "cap", self.cap, 0.0))
        choice("DecoupledPPO", "outside", self.outside, ("zero", "truncate"))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        weight = exp(tokens.prox - behaviour_of("DecoupledPPO", tokens))
        counts = {}
        if self.cap is not None:
            beyond = above(weight, self.cap)
            counts["over_cap"] = tokens.total(beyond)
            weight = weight.clamp(max=self.cap) if self.outside == "truncate" else weight.mul_(1 - beyond)
        # PPO's loss is linear in the size of the advantage, so the weight can go there; a masked token then has none.
        scaled = copy(tokens)
        scaled.advantages = finite(weight.mul_(tokens.advantages))
        out = PPO(clip=self.clip, dual_clip=self.dual_clip).token_loss(scaled)
        return TokenLoss(out.loss, out.gradient, {**out.counts, **counts})
