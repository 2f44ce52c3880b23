"""Clip-Cov and KL-Cov: other rules for the tokens whose log-probability and advantage vary together the most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rollmath._checks import real, whole
from rollmath.loss._batch import BatchObjective
from rollmath.loss._objectives import TokenLoss
from rollmath.loss._options import bounds_of, open_interval_of
from rollmath.loss._ppo import PPO
from rollmath.loss._step import Given, Step, TokenSet, covariance
from rollmath.loss._tokens import Tokens

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ClipCov(BatchObjective):
    r"""PPO's clipped loss without a few tokens of high covariance: ``L_t = 0`` if drawn, else that of :class:`PPO`.

    ::

        cov_t = (A_t - mean A) (theta_t - mean theta)          means over the trained tokens of the step
        drawn: floor(share N) of the tokens with lo < cov_t < hi that PPO does not clip, at random

    A token that is drawn has loss and derivative 0, and still counts in the denominator of the aggregation. ``N`` is
    the number of trained tokens of the step. At least ``least`` are drawn, at most all that may be.

    The covariance needs the whole step, so there are two passes::

        parts = [objective.prepare(logprobs, advantages, rows) for ... in the step]     # gather them over ranks
        prepared = objective.with_parts(parts)
        policy_loss(logprobs, advantages, rows, prepared, ...)                          # each micro-batch

    Prepare anew for every step, with the log-probabilities that the step begins with; tokens that were not prepared are
    an error. The draw depends on rollout id, segment, position and seed alone: not on how the step is split.

    Attributes:
        clip: ``(lo, hi)`` of PPO, or one number for both.
        share: fraction of the trained tokens to draw, in [0, 1].
        bounds: ``(lo, hi)``, the open interval of the covariance; ``hi`` may be infinite.
        seed: of the draw; use another in every step.
        least: how many to draw at least.
        selection: the tokens that are drawn; set by ``with_parts``.

    Edge cases:
        Constant advantages: every covariance is exactly 0. Batch-coupled. Counts ``clip_high``, ``clip_low`` (of
        tokens that are not drawn) and ``clip_cov`` (drawn).

    Raises:
        ValueError: an option out of range; not prepared.
        TypeError: an option of the wrong type.

    Source: Cui et al. 2025, arXiv 2505.22617. The authors' code and verl take means, N and the draw of each
    micro-batch.

    >>> from rollmath import LogProbs, Rows
    >>> rows = Rows(["a", "b"], [2, 2])
    >>> logprobs = LogProbs(torch.tensor([-0.1, -3.0, -0.2, -4.0]))
    >>> objective = ClipCov(share=0.25)
    >>> objective.with_parts([objective.prepare(logprobs, [1.0, -1.0], rows)]).selection
    TokenSet(1 of 4 tokens)
    """

    clip: tuple[float, float] | float = (0.2, 0.2)
    share: float = 2e-4
    bounds: tuple[float, float] = (1.0, 5.0)
    seed: int = 0
    least: int = 1
    selection: TokenSet | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip", bounds_of("ClipCov", "clip", self.clip))
        object.__setattr__(self, "share", real("ClipCov", "share", self.share, 0.0, 1.0))
        object.__setattr__(self, "bounds", open_interval_of("ClipCov", "bounds", self.bounds))
        object.__setattr__(self, "seed", whole("ClipCov", "seed", self.seed, least=0))
        object.__setattr__(self, "least", whole("ClipCov", "least", self.least, least=0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        drawn = self.selected(tokens)
        # With advantage 0 a token has loss and derivative 0 whatever its ratio.
        out = PPO(clip=self.clip).token_loss(tokens.with_advantages(tokens.advantages * (1 - drawn)))
        counts = {name: out.counts[name] for name in ("clip_high", "clip_low")}
        return out._replace(counts=counts | {"clip_cov": tokens.total(drawn)})

    def _columns(self, given: Given) -> dict[str, NDArray[Any]]:
        lo, hi = bounds_of("ClipCov", "clip", self.clip)
        with np.errstate(over="ignore"):
            ratio = np.exp(given.theta - given.prox)
        advantages = given.advantages
        clipped = ((advantages > 0) & (ratio > 1 + hi)) | ((advantages < 0) & (ratio < 1 - lo))
        return {"theta": given.theta, "advantages": advantages, "free": ~clipped}

    def _choose(self, step: Step) -> NDArray[np.int64]:
        cov, (lo, hi) = covariance(step), self.bounds
        free = np.flatnonzero((cov > lo) & (cov < hi) & step.columns["free"])
        return step.drawn(free, max(int(self.share * len(step)), self.least), self.seed)


@dataclass(frozen=True)
class KLCov(BatchObjective):
    r"""Ratio loss with a penalty for tokens of the highest covariance: ``L_t = -A_t rho_t + coef |log rho_t|``.

    Nothing is clipped. The penalty is for the ``floor(share N)`` tokens, at least ``least``, with the largest
    covariance in the step::

        cov_t = (A_t - mean A) (theta_t - mean theta)          means over the N trained tokens of the step

    The others have ``-A_t rho_t`` alone. The derivative is ``-A_t rho_t + coef sign(log rho_t)``; the penalty has none
    at ``rho = 1``, so it acts from the second step on a batch on. Two passes, as in :class:`ClipCov`: ``prepare`` each
    micro-batch, then ``with_parts``.

    Attributes:
        share: fraction of the trained tokens that get the penalty, in [0, 1].
        coef: the coefficient, not negative. 1.0 is what verl's function falls back to; its default configuration gives
            it 0.1.
        least: how many get it at least.
        selection: the tokens with the penalty; set by ``with_parts``.

    Edge cases:
        Of tokens that tie at the threshold some are chosen by a hash of rollout id, segment and position, so that there
        are exactly as many as asked for, in any split. Constant advantages: all tie. Batch-coupled. Counts ``kl_cov``
        (tokens with the penalty).

    Raises:
        ValueError: an option out of range; not prepared.
        TypeError: an option of the wrong type.

    Source: Cui et al. 2025, arXiv 2505.22617. The authors' code and verl take means, N and the threshold of each
    micro-batch.

    >>> from rollmath import LogProbs, Rows
    >>> rows = Rows(["a", "b"], [2, 2])
    >>> logprobs = LogProbs(torch.tensor([-0.1, -3.0, -0.2, -4.0]))
    >>> objective = KLCov(share=0.5)
    >>> objective.with_parts([objective.prepare(logprobs, [1.0, -1.0], rows)])
    KLCov(share=0.5, coef=1.0, least=1, selection=TokenSet(2 of 4 tokens))
    """

    share: float = 2e-4
    coef: float = 1.0
    least: int = 1
    selection: TokenSet | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", real("KLCov", "share", self.share, 0.0, 1.0))
        object.__setattr__(self, "coef", real("KLCov", "coef", self.coef, 0.0))
        object.__setattr__(self, "least", whole("KLCov", "least", self.least, least=0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        chosen, ratio = self.selected(tokens), tokens.ratio
        largest = torch.finfo(ratio.dtype).max
        slope = -tokens.advantages * ratio
        penalty = self.coef * chosen
        loss = torch.addcmul(slope, penalty, tokens.log_ratio.abs().clamp_(max=largest))
        slope = torch.addcmul(slope, penalty, tokens.log_ratio.sign())
        return TokenLoss(loss, tokens.weighted(slope), {"kl_cov": tokens.total(chosen)})

    def _columns(self, given: Given) -> dict[str, NDArray[Any]]:
        return {"theta": given.theta, "advantages": given.advantages}

    def _choose(self, step: Step) -> NDArray[np.int64]:
        return step.largest(covariance(step), max(int(self.share * len(step)), self.least))
