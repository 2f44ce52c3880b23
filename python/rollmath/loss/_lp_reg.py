"""Lp-Reg: low-probability tokens are kept near a proxy instead of being pushed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from rollmath._arrays import choice
from rollmath._checks import real
from rollmath.loss._batch import BatchObjective
from rollmath.loss._kl import in_reach, k3
from rollmath.loss._objectives import TokenLoss
from rollmath.loss._options import bounds_of, over
from rollmath.loss._step import Given, Step, TokenSet
from rollmath.loss._tokens import Tokens, above, below, equal

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LpReg(BatchObjective):
    r"""PPO, but for tokens of low probability and negative advantage: ``L_t = -A_t rho_t + coef (e^d - d - 1)``.

    ``d = log q_t - theta_t``, where q is a proxy: the policy without its noise, say without all tokens whose
    probability is below ``kappa`` times the largest, renormalised (min-p). Give ``log q_t`` of the sampled tokens as
    ``LogProbs(ref=...)``: the log-probability under the proxy, which is ``-inf`` for a token that the proxy leaves out.
    Here the proxy takes the place of the reference policy, so a :class:`KL` term in the same call would be one against
    the proxy.

    A token is regularised if all of these hold; the ratio loss is then unclipped::

        A_t < 0
        theta_t is among the lowest ``share`` of log-probabilities        in the step, when prepared
        theta_t < log q_t                                                    when the loss is taken

    The derivative is ``-A_t rho_t + coef (1 - e^d)``. All other tokens have the loss of :class:`PPO` without dual clip.
    Two passes, as in :class:`ClipCov`: ``prepare`` each micro-batch, then ``with_parts``.

    Attributes:
        clip: ``(lo, hi)`` of the others. The authors' scripts have 1.0 and 9.0, which is almost no clip.
        share: in [0, 1]; ``floor(share n)`` tokens. The authors' scripts have 0.01 and 0.005.
        of: what it is a share of: ``"negative"``, tokens with ``A < 0`` (the authors' code), or ``"all"``, all
            trained tokens, of which those with ``A < 0`` are then regularised (as others describe it; unverified).
        coef: the coefficient, not negative.
        max_kl: the penalty is at most this, with derivative 0 beyond; the authors' code: 10. None: as it is.
        selection: the tokens with A < 0 of lowest log-probability; set by ``with_parts``.

    Edge cases:
        Of tokens that tie at the threshold some are chosen by a hash of rollout id, segment and position. The authors'
        code takes share and threshold of each micro-batch, and regularises nothing where that is a single token.
        A NaN in ``ref`` at a trained token makes the loss NaN. Batch-coupled. Counts ``clip_high``, ``clip_low`` and
        ``lp_reg`` (regularised).

    Raises:
        ValueError: an option out of range; not prepared; no ``ref``.
        TypeError: an option of the wrong type.

    Source: Huang et al. 2025, arXiv 2510.03222.

    >>> from rollmath import LogProbs, Rows
    >>> rows = Rows(["a", "b"], [2, 2])
    >>> logprobs = LogProbs(torch.tensor([-0.1, -3.0, -0.2, -4.0]))
    >>> objective = LpReg(share=0.5)
    >>> objective.with_parts([objective.prepare(logprobs, [1.0, -1.0], rows)]).selection
    TokenSet(1 of 4 tokens)
    """

    clip: tuple[float, float] | float = (0.2, 0.2)
    share: float = 0.01
    of: Literal["negative", "all"] = "negative"
    coef: float = 1.0
    max_kl: float | None = None
    selection: TokenSet | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip", bounds_of("LpReg", "clip", self.clip))
        object.__setattr__(self, "share", real("LpReg", "share", self.share, 0.0, 1.0))
        choice("LpReg", "of", self.of, ("negative", "all"))
        object.__setattr__(self, "coef", real("LpReg", "coef", self.coef, 0.0))
        object.__setattr__(self, "max_kl", over("LpReg", "max_kl", self.max_kl, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        selected, a, ratio, proxy = self.selected(tokens), tokens.advantages, tokens.ratio, tokens.ref
        if proxy is None:
            msg = "LpReg(): 'logprobs' must have 'ref', the log-probabilities under the proxy"
            raise ValueError(msg)
        lo, hi = bounds_of("LpReg", "clip", self.clip)
        largest = torch.finfo(ratio.dtype).max
        kept = below(tokens.theta, proxy).mul_(selected)
        # L = gain max(rho, 1 - lo) - want min(rho, 1 + hi), and no lower bound for tokens that are regularised.
        want, gain = a.clamp(min=0), (-a).clamp(min=0)
        low, high = torch.maximum(ratio, (1 - lo) * (1 - kept)), ratio.clamp(max=min(1 + hi, largest))
        # e^d - d - 1 is k3 of -d, bounded where e^d would be infinite, so that the penalty grows with d.
        d = (proxy.clamp(min=-largest) - tokens.theta).clamp_(min=0)
        penalty, push = k3(in_reach("k3", -d).mul_(kept))
        if self.max_kl is not None:
            capped = penalty.clamp(max=self.max_kl)
            push, penalty = push * equal(capped, penalty), capped
        loss = torch.addcmul(gain * low, want, high, value=-1).add_(penalty, alpha=self.coef)
        inside_low, inside_high = equal(low, ratio), equal(high, ratio)
        slope = torch.addcmul(gain * inside_low, want, inside_high, value=-1).mul_(ratio).add_(push, alpha=self.coef)
        counts = {
            "clip_high": tokens.total(above(a, 0).mul_(above(ratio, 1 + hi))),
            "clip_low": tokens.total(below(a, 0).mul_(below(ratio, 1 - lo)).mul_(1 - kept)),
            "lp_reg": tokens.total(kept),
        }
        return TokenLoss(loss, tokens.weighted(slope), counts)

    def _columns(self, given: Given) -> dict[str, NDArray[Any]]:
        return {"theta": given.theta, "negative": given.advantages < 0}

    def _choose(self, step: Step) -> NDArray[np.int64]:
        negative = step.columns["negative"]
        # Tokens that may not be chosen sort behind all that may.
        theta = np.where(negative, step.columns["theta"], np.inf) if self.of == "negative" else step.columns["theta"]
        n = int(negative.sum()) if self.of == "negative" else len(step)
        lowest = step.largest(-theta, int(self.share * n))
        return np.asarray(lowest[negative[lowest]], np.int64)
