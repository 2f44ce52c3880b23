"""VESPO: a soft weight of the sequence ratio instead of a clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rollmath._arrays import choice
from rollmath._checks import flag, real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over
from rollmath.loss._tokens import Tokens, below

#: What log w and its terms are clamped to, as the official code and TRL do.
LEAST, MOST = math.log(1e-8), 20.0


@dataclass(frozen=True)
class VESPO(Objective):
    r"""Policy gradient with a gamma-shaped weight of the sequence ratio: ``L_t = -sg(phi(w)) A_t theta_t``.

    ::

        phi(w) = e^lambda w^k e^(-lambda w)                       phi(1) = 1
        log w  = clamp(sum_t clamp(theta_t - prox_t, -20, 20), log 1e-8, 20)

    summed over the trained tokens of the sequence, not averaged. ``(k, lambda)`` are ``(k_pos, lambda_pos)`` where
    ``A_t >= 0`` and ``(k_neg, lambda_neg)`` where ``A_t < 0``. phi is largest at ``w = k / lambda`` and falls on both
    sides of it. It is a constant of the loss, so the derivative is ``-phi A_t``.

    Attributes:
        k_pos: exponent where ``A >= 0``, not negative: how fast the weight falls for a small w.
        lambda_pos: decay where ``A >= 0``, positive: how fast it falls for a large w.
        k_neg: the exponent where ``A < 0``.
        lambda_neg: the decay where ``A < 0``.
        unit: which tokens make the sequence: the ``"rollout"`` (all its rows) or the ``"row"``.
        behaviour: whether w is the ratio to the policy that sampled: ``log w`` has the terms
            ``clamp(min(prox_t - behaviour_t, log behaviour_cap), log 1e-8, 20)`` too.
        behaviour_cap: the most that one token's ``prox / behaviour`` may be, positive; None: no cap. TRL: 3.0, where
            the mismatch is truncated by token.

    Edge cases:
        A NaN log-probability gives a NaN loss; TRL turns it into weight 0. A weight beyond the largest number of the
        dtype stops there. Sequence-coupled: all rows of a rollout must be in one call. Counts ``phi``.

    Raises:
        ValueError: an option out of range, an unknown choice; no ``behaviour`` log-probabilities where they are needed.
        TypeError: an option of the wrong type.

    Source: arXiv 2602.10693, as TRL has it (``loss_type="vespo"``, mean over all tokens).

    >>> tokens = Tokens.of(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 1.0]), prox=torch.tensor([-1.2, -1.8]))
    >>> VESPO().token_loss(tokens).gradient  # w = 1
    tensor([-1., -1.])
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "sequence"
    k_pos: float = 2.0
    lambda_pos: float = 3.0
    k_neg: float = 3.0
    lambda_neg: float = 2.0
    unit: Literal["rollout", "row"] = "rollout"
    behaviour: bool = False
    behaviour_cap: float | None = None

    def __post_init__(self) -> None:
        for name in ("k_pos", "k_neg"):
            object.__setattr__(self, name, real("VESPO", name, getattr(self, name), 0.0))
        for name in ("lambda_pos", "lambda_neg"):
            object.__setattr__(self, name, real("VESPO", name, getattr(self, name), above=0.0))
        choice("VESPO", "unit", self.unit, ("rollout", "row"))
        object.__setattr__(self, "behaviour", flag("VESPO", "behaviour", self.behaviour))
        object.__setattr__(self, "behaviour_cap", over("VESPO", "behaviour_cap", self.behaviour_cap, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        log_w = tokens.log_ratio.clamp(-MOST, MOST)
        if self.behaviour:
            log_w += self._mismatch(tokens)
        log_w = tokens.reduce(log_w, self.unit, "sum").clamp(LEAST, MOST)
        negative = below(tokens.advantages, 0)
        phi = self._phi(tokens, log_w, self.k_neg, self.lambda_neg) * negative
        phi += self._phi(tokens, log_w, self.k_pos, self.lambda_pos) * (1 - negative)
        slope = -phi * tokens.advantages
        # An impossible token with A = 0 has loss 0.
        loss = slope * tokens.theta.clamp(min=torch.finfo(tokens.theta.dtype).min)
        return TokenLoss(loss, tokens.weighted(slope), {"phi": tokens.total(phi)})

    def _mismatch(self, tokens: Tokens) -> torch.Tensor:
        if tokens.behaviour is None:
            msg = "VESPO(): 'logprobs' must have 'behaviour', the policy that sampled, because behaviour=True"
            raise ValueError(msg)
        cap = MOST if self.behaviour_cap is None else math.log(self.behaviour_cap)
        return (tokens.prox - tokens.behaviour).clamp(max=cap).clamp_(LEAST, MOST)

    def _phi(self, tokens: Tokens, log_w: torch.Tensor, k: float, decay: float) -> torch.Tensor:
        log_phi = decay + k * log_w - decay * log_w.exp()
        return tokens.spread(log_phi.exp().clamp(max=torch.finfo(tokens.theta.dtype).max), self.unit)
