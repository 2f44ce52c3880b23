"""PPO's clipped objective, with clip-higher, dual clip and a cap on the ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import bounds_of, over
from rollmath.loss._tokens import Tokens, below, equal, exp


@dataclass(frozen=True)
class PPO(Objective):
    r"""Clipped surrogate: ``L = max(-A rho, -A clip(rho, 1 - lo, 1 + hi))`` with ``rho = exp(theta - prox)``.

    With ``dual_clip=c``, where ``A < 0``: ``min(L, -A c)``, so that a huge ratio cannot dominate. With ``delta``, the
    rho that is not clipped is ``min(rho, delta)`` (TRL), which does the same for ``A < 0`` if delta is over 1 + hi.

    The derivative with respect to the log-probability under theta is ``-A rho``, and 0 where a clip is active::

        clipped       A > 0 and rho > 1 + hi,  or  A < 0 and rho < 1 - lo
        dual clipped  A < 0 and rho > c (or delta)

    The inequalities are strict: exactly on a boundary, where L has a kink, the gradient is the one of the unclipped
    side. (Autograd of the plain formula gives half of it with torch 2.15, whose ``clamp`` has none on a bound.)

    Attributes:
        clip: ``(lo, hi)``, or one number for both. ``lo`` in [0, 1], ``hi`` at least 0 (``math.inf``: no upper clip).
        dual_clip: ``c`` over 1, or None. verl's default is 3.0. It acts where ``A < 0`` and the upper clip where
            ``A > 0``, so it may be below ``1 + hi``.
        delta: TRL's cap of the ratio that is not clipped, over 1, or None. Not together with ``dual_clip``.
        max_log_ratio: theta - prox is clamped to plus or minus this, as verl does with 20; beyond it the derivative is
            0. None: as it is; rho then stops at the largest finite number, in float32 from a log-ratio of 88.7 on.

    A token with ``A = 0`` has loss 0 and derivative 0, whatever its ratio. Separable. Counts ``clip_high``,
    ``clip_low`` and ``dual_clip``.

    Raises:
        ValueError: a bound out of range; both ``dual_clip`` and ``delta``.
        TypeError: a bound that is no number.

    Source: Schulman et al. 2017, arXiv 1707.06347; dual clip: Ye et al. 2019, arXiv 1912.09729; ``lo != hi``
    (clip-higher): DAPO, arXiv 2503.14476; delta: INTELLECT-2, arXiv 2505.07291, as TRL has it.

    >>> PPO(clip=(0.2, 0.28), dual_clip=3.0)
    PPO(clip=(0.2, 0.28), dual_clip=3.0, delta=None, max_log_ratio=None)
    """

    homogeneous: ClassVar[bool] = True
    clip: tuple[float, float] | float = (0.2, 0.2)
    dual_clip: float | None = None
    delta: float | None = None
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "clip", bounds_of("PPO", "clip", self.clip))
        object.__setattr__(self, "dual_clip", over("PPO", "dual_clip", self.dual_clip, 1.0))
        object.__setattr__(self, "delta", over("PPO", "delta", self.delta, 1.0))
        object.__setattr__(self, "max_log_ratio", over("PPO", "max_log_ratio", self.max_log_ratio, 0.0))
        if self.dual_clip is not None and self.delta is not None:
            msg = "PPO(): 'dual_clip' and 'delta' are two rules for the same thing; give one"
            raise ValueError(msg)

    @property
    def bounds(self) -> tuple[float, float]:
        """The clip as ``(lo, hi)``."""
        return self.clip if isinstance(self.clip, tuple) else (self.clip, self.clip)

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        lo, hi = self.bounds
        ratio, a = tokens.ratio, tokens.advantages
        if self.max_log_ratio is not None:
            ratio = exp(tokens.log_ratio.clamp(-self.max_log_ratio, self.max_log_ratio))
        largest = torch.finfo(ratio.dtype).max
        # Where A < 0 and rho is over delta, the clipped rho may still be larger, up to 1 + hi; where A > 0 both bind.
        delta = self.delta or math.inf
        top = min(self.dual_clip or max(delta, 1 + hi), largest)
        upper = min(1 + hi, delta, largest)
        # L = gain clip(rho, 1 - lo, c) - want min(rho, 1 + hi), where gain = max(-A, 0) and want = max(A, 0). A dual
        # clip below 1 - lo cannot be, and torch.clamp gives its maximum where both bounds cross.
        want = a.clamp(min=0)
        gain = want - a
        low, high = ratio.clamp(1 - lo, top), ratio.clamp(max=upper)
        loss = torch.addcmul(gain * low, want, high, value=-1)
        inside_low, inside_high = low.eq_(ratio), high.eq_(ratio)
        slope = torch.addcmul(gain * inside_low, want, inside_high, value=-1).mul_(ratio)
        if self.max_log_ratio is not None:
            slope *= equal(tokens.log_ratio.clamp(-self.max_log_ratio, self.max_log_ratio), tokens.log_ratio)
        wanted, unwanted = want.sign_(), gain.sign_()
        clip_high = tokens.count(wanted) - tokens.count(wanted, inside_high)
        outside = tokens.count(unwanted) - tokens.count(unwanted, inside_low)
        clip_low = tokens.count(unwanted, below(ratio, 1 - lo))
        counts = {"clip_high": clip_high, "clip_low": clip_low, "dual_clip": outside - clip_low}
        return TokenLoss(loss, tokens.weighted_(slope), counts)
