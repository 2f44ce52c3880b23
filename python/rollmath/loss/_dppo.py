"""DPPO: a trust region by the divergence of the token's probability, not by the ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rollmath._arrays import choice
from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over, thresholds_of
from rollmath.loss._score import score_loss
from rollmath.loss._tokens import Tokens, above, below, exp, finite


@dataclass(frozen=True)
class DPPO(Objective):
    r"""Divergence proximal policy optimization: ``L = -A sg(min(rho, cap) keep) logp``.

    ``keep`` is 0 where the update would take the token further out of the trust region, else 1. With ``p`` and ``q``
    its probabilities under theta and prox, and the divergence of "this token or another" (two outcomes)::

        "tv"   keep unless  A > 0 and p - q > hi,            or  A < 0 and q - p > lo
        "kl"   keep unless  A > 0 and p > q and KL > hi,     or  A < 0 and p < q and KL > lo
               KL = q log(q / p) + (1 - q) log((1 - q + eps) / (1 - p + eps))

    The derivative is ``-A min(rho, cap) keep``. A ratio of 10 on a token of probability 1e-5 is no large change of the
    policy: it is kept here and clipped by PPO.

    Attributes:
        divergence: ``"tv"`` (total variation) or ``"kl"``.
        bounds: ``(lo, hi)``, or one number for both: thresholds of the divergence, of probability with ``"tv"`` and
            nats with ``"kl"``; ``math.inf`` for none. 0.2 is what verl's ``clip_ratio`` and prime-rl have for TV; a
            value of the paper is unverified.
        cap: bound of the ratio, positive, or None. 20 is what verl's functions fall back to; its default
            configuration gives them the dual clip's 3.0.
        eps: inside the KL, positive, so that it is finite at probability 1.

    verl: ``dppo_tv`` and ``dppo_kl``. (It also clamps the log-ratio to plus or minus 20, which a cap below ``e^20``
    makes irrelevant, and rounds ``1 - p`` in float32, so that tokens near probability 1 may fall on the other side of a
    threshold.) prime-rl adds ``1e-3 log(rho)^2``: a :class:`Quadratic` penalty.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Exactly at a threshold a token is kept. Separable. Counts
        ``clip_high`` and ``clip_low`` (not kept) and ``truncated`` (kept with a ratio over ``cap``).

    Raises:
        ValueError: an unknown divergence, or an option out of range.
        TypeError: an option that is no number.

    Source: arXiv 2602.04879.

    >>> theta, prox = torch.tensor([0.9, 0.001]).log(), torch.tensor([0.6, 0.0001]).log()
    >>> tokens = Tokens.of(theta, torch.tensor([1.0, 1.0]), prox=prox)
    >>> DPPO("tv", bounds=0.2).token_loss(tokens).gradient
    tensor([ -0., -10.])
    """

    homogeneous: ClassVar[bool] = True
    divergence: Literal["tv", "kl"] = "tv"
    bounds: tuple[float, float] | float = (0.2, 0.2)
    cap: float | None = 20.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        choice("DPPO", "divergence", self.divergence, ("tv", "kl"))
        object.__setattr__(self, "bounds", thresholds_of("DPPO", "bounds", self.bounds))
        object.__setattr__(self, "cap", over("DPPO", "cap", self.cap, 0.0))
        object.__setattr__(self, "eps", real("DPPO", "eps", self.eps, above=0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        lo, hi = thresholds_of("DPPO", "bounds", self.bounds)
        cap = math.inf if self.cap is None else self.cap
        if self.divergence == "tv":
            moved = exp(tokens.theta) - exp(tokens.prox)
            high, low = above(moved, hi), below(moved, -lo)
        else:
            kl = self._binary_kl(tokens)
            high = above(kl, hi).mul_(above(tokens.log_ratio, 0))
            low = above(kl, lo).mul_(below(tokens.log_ratio, 0))
        high.mul_(above(tokens.advantages, 0))
        low.mul_(below(tokens.advantages, 0))
        keep = 1 - high - low
        slope = tokens.ratio.clamp(max=cap).mul_(keep).mul_(tokens.advantages).neg_()
        counts = {
            "clip_high": tokens.total(high),
            "clip_low": tokens.total(low),
            "truncated": tokens.total(above(tokens.ratio, cap).mul_(keep)),
        }
        return score_loss(tokens, slope, counts)

    def _binary_kl(self, tokens: Tokens) -> torch.Tensor:
        """KL of prox from theta for two outcomes: this token, or another."""
        # Rounding may leave a log-probability a little over 0, whose rest would have no logarithm.
        rest, rest_prox = (-torch.expm1(x.clamp(max=0)) for x in (tokens.theta, tokens.prox))
        other = (rest_prox + self.eps).div_(rest + self.eps).log_().mul_(rest_prox)
        return other.addcmul_(exp(tokens.prox), finite(tokens.log_ratio), value=-1)
