"""PPO's clipped objective, with clip-higher and dual clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import torch

from rollmath._arrays import describe
from rollmath.loss._objectives import TokenLoss


@dataclass(frozen=True)
class PPO:
    r"""Clipped surrogate: ``L = max(-A rho, -A clip(rho, 1 - lo, 1 + hi))`` with ``rho = exp(theta - prox)``.

    With ``dual_clip=c``, where ``A < 0``: ``min(L, -A c)``, so that a huge ratio cannot dominate.

    The derivative with respect to the log-probability under theta is ``-A rho``, and 0 where a clip is active::

        clipped       A > 0 and rho > 1 + hi,  or  A < 0 and rho < 1 - lo
        dual clipped  A < 0 and rho > c

    The inequalities are strict: exactly on a boundary, where L has a kink, the gradient is the one of the unclipped
    side, as autograd has it for ``torch.clamp``.

    Attributes:
        clip: ``(lo, hi)``, or one number for both. ``lo`` in [0, 1], ``hi`` at least 0 (``math.inf``: no upper clip).
        dual_clip: ``c`` over 1, or None. verl's default is 3.0. It acts where ``A < 0`` and the upper clip where
            ``A > 0``, so it may be below ``1 + hi``.
        max_log_ratio: theta - prox is clamped to plus or minus this, as verl does with 20; beyond it the derivative is
            0. None: as it is; rho overflows to inf in float32 at 88.7, and so does L where A < 0 without dual clip.

    A token with ``A = 0`` has loss 0 and coefficient 0, whatever its ratio.

    Raises:
        ValueError: a bound out of range.
        TypeError: a bound that is no number.

    Source: Schulman et al. 2017, arXiv 1707.06347; dual clip: Ye et al. 2019, arXiv 1912.09729; ``lo != hi``
    (clip-higher): DAPO, arXiv 2503.14476.

    >>> PPO(clip=(0.2, 0.28), dual_clip=3.0)
    PPO(clip=(0.2, 0.28), dual_clip=3.0, max_log_ratio=None)
    """

    clip: tuple[float, float] | float = (0.2, 0.2)
    dual_clip: float | None = None
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        pair: tuple[float, ...] = tuple(self.clip) if isinstance(self.clip, (tuple, list)) else (self.clip,) * 2
        if len(pair) != 2:
            msg = f"PPO(): 'clip' must be one number or (lo, hi), got {self.clip!r}"
            raise ValueError(msg)
        lo, hi = _number("clip", pair[0]), _number("clip", pair[1])
        if not (0 <= lo <= 1 and hi >= 0):
            msg = f"PPO(): 'clip' must be (lo, hi) with lo in [0, 1] and hi of at least 0, got {self.clip!r}"
            raise ValueError(msg)
        dual_clip = None if self.dual_clip is None else _number("dual_clip", self.dual_clip)
        if dual_clip is not None and not (dual_clip > 1 and math.isfinite(dual_clip)):
            msg = f"PPO(): 'dual_clip' must be over 1 and finite, got {self.dual_clip!r}"
            raise ValueError(msg)
        limit = None if self.max_log_ratio is None else _number("max_log_ratio", self.max_log_ratio)
        if limit is not None and not (limit > 0 and math.isfinite(limit)):
            msg = f"PPO(): 'max_log_ratio' must be positive and finite, got {self.max_log_ratio!r}"
            raise ValueError(msg)
        for name, value in (("clip", (lo, hi)), ("dual_clip", dual_clip), ("max_log_ratio", limit)):
            object.__setattr__(self, name, value)

    @property
    def bounds(self) -> tuple[float, float]:
        """The clip as ``(lo, hi)``."""
        if not isinstance(self.clip, tuple):
            return (self.clip, self.clip)
        return self.clip

    @torch.no_grad()
    def token_loss(self, theta: torch.Tensor, prox: torch.Tensor, advantages: torch.Tensor) -> TokenLoss:
        """Loss and closed-form derivative of each token.

        Args:
            theta: log-probabilities under the policy in training, any shape; its gradient is not tracked here.
            prox: those under the proximal policy, of the same shape.
            advantages: of the same shape.

        Returns:
            A :class:`TokenLoss` of float32 tensors, or of float64 if theta is float64.

        Raises:
            ValueError: shapes that differ.
            TypeError: what is no float tensor.
        """
        dtype = _check(theta, prox, advantages)
        log_ratio = theta.to(dtype) - prox.to(dtype)
        within = torch.ones_like(log_ratio, dtype=torch.bool)
        if self.max_log_ratio is not None:
            # Not abs() > limit: NaN must stay NaN, and so must its gradient.
            within = ~(log_ratio.abs() > self.max_log_ratio)
            log_ratio = log_ratio.clamp(-self.max_log_ratio, self.max_log_ratio)
        ratio = log_ratio.exp()
        a = advantages.to(dtype)
        zero, lower, upper = a == 0, 1 - self.bounds[0], 1 + self.bounds[1]
        plain = torch.where(zero, 0, -a * ratio)
        clipped = ((a > 0) & (ratio > upper)) | ((a < 0) & (ratio < lower))
        loss = torch.where(clipped, -a * ratio.clamp(lower, upper), plain)
        dual = torch.zeros_like(clipped)
        if self.dual_clip is not None:
            dual = (a < 0) & (ratio > self.dual_clip)
            loss = torch.where(dual, -a * self.dual_clip, loss)
        coefficient = torch.where(clipped | dual | ~within, 0, plain)
        return TokenLoss(loss, coefficient, ratio, log_ratio, clipped, dual)


def _number(name: str, value: object) -> float:
    """Any real number as a float, those of NumPy too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        msg = f"PPO(): {name!r} must hold numbers, got {value!r}"
        raise TypeError(msg)
    try:
        return float(value)
    except OverflowError:
        msg = f"PPO(): {name!r} must fit a float"
        raise ValueError(msg) from None


def _check(theta: torch.Tensor, prox: torch.Tensor, advantages: torch.Tensor) -> torch.dtype:
    for name, x in (("theta", theta), ("prox", prox), ("advantages", advantages)):
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            msg = f"PPO.token_loss(): {name!r} must be a float tensor, got {describe(x)}"
            raise TypeError(msg)
        if x.shape != theta.shape:
            msg = (
                f"PPO.token_loss(): {name!r} must have shape {tuple(theta.shape)} (= theta.shape), got {tuple(x.shape)}"
            )
            raise ValueError(msg)
    return torch.float64 if theta.dtype == torch.float64 else torch.float32
