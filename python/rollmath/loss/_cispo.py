"""CISPO: clip the importance weight, never the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import bounds_of, over
from rollmath.loss._score import clamped_ratio, score_loss
from rollmath.loss._tokens import Tokens, above, below


@dataclass(frozen=True)
class CISPO(Objective):
    r"""REINFORCE with a clipped ratio as a constant weight: ``L = -A sg(clip(rho, low, high)) logp``.

    The derivative is ``-A clip(rho, low, high)``: a clipped token keeps a gradient, unlike under PPO. The same word
    means two things elsewhere, so exactly one of two options says the bounds:

    - ``clip=(lo, hi)``: ``low = 1 - lo, high = 1 + hi``, as in the paper and in verl and ROLL;
    - ``cap=c``: ``low = 0, high = c``, as in TRL, whose ``epsilon_high`` is this absolute cap (its documentation
      advises 5.0; left unset it is ``epsilon``, 0.2, a weight of 0.2 on almost every token).

    ``cap=c`` is ``clip=(1, c - 1)``. ``clip=(1, math.inf)`` does not clip: REINFORCE with an importance weight.
    ``cap=1.0`` is ROLL's ``tis``.

    Attributes:
        clip: ``(lo, hi)``, or one number for both. ``lo`` in [0, 1], ``hi`` at least 0 (``math.inf``: no upper bound).
        cap: the upper bound of the weight, positive; there is no lower one.
        max_log_ratio: theta - prox is clamped to plus or minus this before the exponential, as verl does with 20. As
            the weight is constant, no derivative vanishes by it; it matters only where the bounds are wider.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Separable. Counts ``clip_high`` and ``clip_low``: tokens
        whose ratio is out of bounds, whatever the sign of their advantage.

    Raises:
        ValueError: both or none of ``clip`` and ``cap``; a bound out of range.
        TypeError: a bound that is no number.

    Source: MiniMax-M1, arXiv 2506.13585.

    >>> import torch
    >>> tokens = Tokens.of(torch.tensor([-1.0]), torch.tensor([2.0]), prox=torch.tensor([-2.0]))
    >>> CISPO(clip=0.25).token_loss(tokens).gradient, CISPO(cap=2.0).token_loss(tokens).gradient
    (tensor([-2.5000]), tensor([-4.]))
    """

    homogeneous: ClassVar[bool] = True
    clip: tuple[float, float] | float | None = None
    cap: float | None = None
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        if (self.clip is None) == (self.cap is None):
            msg = (
                "CISPO(): give either 'clip' (bounds 1 - lo and 1 + hi) or 'cap' (an absolute upper bound), got "
                f"{'none' if self.clip is None else 'both'}"
            )
            raise ValueError(msg)
        if self.clip is not None:
            object.__setattr__(self, "clip", bounds_of("CISPO", "clip", self.clip))
        object.__setattr__(self, "cap", over("CISPO", "cap", self.cap, 0.0))
        object.__setattr__(self, "max_log_ratio", over("CISPO", "max_log_ratio", self.max_log_ratio, 0.0))

    @property
    def interval(self) -> tuple[float, float]:
        """The bounds ``(low, high)`` of the weight."""
        if self.cap is not None:
            return 0.0, self.cap
        lo, hi = bounds_of("CISPO", "clip", self.clip)
        return 1 - lo, 1 + hi

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        low, high = self.interval
        ratio, _ = clamped_ratio(tokens, self.max_log_ratio)
        counts = {"clip_high": tokens.total(above(ratio, high)), "clip_low": tokens.total(below(ratio, low))}
        return score_loss(tokens, ratio.clamp(low, high).mul_(tokens.advantages).neg_(), counts)
