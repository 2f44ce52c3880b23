"""GMPO: the geometric mean of clipped token ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from rollmath._arrays import choice
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import thresholds_of
from rollmath.loss._tokens import Tokens, above, below, exp


@dataclass(frozen=True)
class GMPO(Objective):
    r"""Geometric mean of the token ratios, clipped in log space: ``L = -mean(A) exp(mean_t c_t)``, one a sequence.

    ``c_t`` is the log-ratio ``x_t = theta - prox``, bounded on the side where it would be rewarded::

        c_t = min(x_t, hi)    where A_t > 0
              max(x_t, -lo)   where A_t < 0
              0               where A_t = 0

    All tokens of a sequence have this loss; with the aggregation ``"rollout_mean_token_mean"`` (or
    ``"seq_mean_token_mean"`` if ``unit="row"``) that is the loss of the paper. The derivative is
    ``W L / n`` for each token whose ``c_t`` is not bounded and whose advantage is not 0, W the sum of the weights of
    the sequence and n its trained tokens; for the others it is 0.

    Attributes:
        log_clip: ``(lo, hi)``, or one number for both, bounds of the *log*-ratio, each at least 0, maybe infinite; the
            ratio is kept in ``(e^-lo, e^hi)``. The paper recommends 0.4. verl and TRL pass their ``clip_ratio_low``
            and ``epsilon`` here as they are, too.
        unit: which tokens make the sequence: the ``"rollout"`` (all its rows) or the ``"row"``.

    Edge cases:
        Exactly on a boundary a token counts as not bounded. Where advantages vary within the sequence, the sign is that
        of each token and the factor their mean (verl's form); the paper has one a sequence. verl and TRL average over
        rows without a trained token too: ``Aggregation(unit="row", empty="include")``. verl adds 1e-8 to n.
        Sequence-coupled: all rows of a rollout must be in one call. Counts ``clip_high`` and ``clip_low``.

    Raises:
        ValueError: a bound that is negative, an unknown choice.
        TypeError: a bound that is no number.

    Source: Zhao et al. 2025, arXiv 2507.20673.

    >>> tokens = Tokens.of(torch.tensor([0.5, -0.1, 0.05]), torch.ones(3), prox=torch.zeros(3))
    >>> out = GMPO(log_clip=0.4).token_loss(tokens)
    >>> out.loss, out.gradient
    (tensor([-1.1237, -1.1237, -1.1237]), tensor([-0.0000, -1.1237, -1.1237]))
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "sequence"
    log_clip: tuple[float, float] | float = (0.4, 0.4)
    unit: Literal["rollout", "row"] = "rollout"

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_clip", thresholds_of("GMPO", "log_clip", self.log_clip))
        choice("GMPO", "unit", self.unit, ("rollout", "row"))

    @property
    def bounds(self) -> tuple[float, float]:
        """The clip of the log-ratio as ``(lo, hi)``."""
        return self.log_clip if isinstance(self.log_clip, tuple) else (self.log_clip, self.log_clip)

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        a, dtype = tokens.advantages, tokens.theta.dtype
        largest = torch.finfo(dtype).max
        lo, hi = (min(bound, largest) for bound in self.bounds)
        # Finite, so that what a sign excludes is 0 and not NaN.
        x = tokens.log_ratio.clamp(-largest, largest)
        wanted, unwanted = above(a, 0), below(a, 0)
        high, low = above(x, hi).mul_(wanted), below(x, -lo).mul_(unwanted)
        mean = tokens.reduce(wanted * x.clamp(max=hi) + unwanted * x.clamp(min=-lo), self.unit, "mean")
        of_sequence = -tokens.reduce(a, self.unit, "mean").to(dtype) * exp(mean.to(dtype))
        loss = tokens.spread(of_sequence, self.unit)
        counts = {"clip_high": tokens.total(high), "clip_low": tokens.total(low)}
        live = wanted.sub_(high).add_(unwanted).sub_(low)
        gradient = tokens.share(tokens.weighted(loss), self.unit, "mean").clamp_(-largest, largest).mul_(live)
        return TokenLoss(loss, gradient, counts)
