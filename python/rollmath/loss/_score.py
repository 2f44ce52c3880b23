"""What objectives over log-probabilities and ratios share."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from rollmath.loss._objectives import NOTHING, TokenLoss
from rollmath.loss._tokens import Tokens, equal, exp, finite


def score_loss(tokens: Tokens, slope: torch.Tensor, counts: Mapping[str, torch.Tensor] = NOTHING) -> TokenLoss:
    """``L = slope * logp`` with a constant slope. A NaN log-probability makes loss and gradient NaN."""
    logp = finite(tokens.theta)
    slope = finite(torch.add(slope, logp, alpha=0))
    return TokenLoss(slope * logp, tokens.weighted(slope), counts)


def clamped_ratio(tokens: Tokens, most: float | None) -> tuple[torch.Tensor, torch.Tensor | float]:
    """``rho`` with its logarithm clamped to plus or minus ``most``, and 1.0 where that changed nothing, else 0.0."""
    if most is None:
        return tokens.ratio, 1.0
    log_ratio = tokens.log_ratio.clamp(-most, most)
    return exp(log_ratio), equal(log_ratio, tokens.log_ratio)


def behaviour_of(who: str, tokens: Tokens) -> torch.Tensor:
    """Log-probabilities under the policy that sampled.

    Raises:
        ValueError: they were not given.
    """
    if tokens.behaviour is None:
        msg = f"{who}(): 'logprobs' must have 'behaviour', the policy that sampled: LogProbs(theta, behaviour=...)"
        raise ValueError(msg)
    return tokens.behaviour
