"""TOPR: positive examples without a ratio, negative ones with a truncated one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import interval_of
from rollmath.loss._score import score_loss
from rollmath.loss._tokens import Tokens, above, below


@dataclass(frozen=True)
class TOPR(Objective):
    r"""Tapered off-policy REINFORCE: ``L = -A sg(c) logp``, ``c = 1`` where ``A > 0``, else ``clip(rho, 0, 1)``.

    In general ``c = positive_weight clip(rho, *positive)`` or ``clip(rho, *negative)``, and the derivative is ``-A c``.
    Positive examples are imitated however unlikely they have become; negative ones lose their weight as the policy
    moves away from them, so that off-policy training does not diverge. ``rho = exp(theta - prox)``: give as prox the
    policy that sampled. The paper's ratio is that of the whole *response*; Trinity, ROLL, and this take that of each
    token.

    What is a positive example is the sign of the *advantage* here, as in Trinity (which has a threshold, 0). In the
    paper it is the sign of the reward, which is the same if you pass rewards as advantages. ROLL decides by the raw
    score, greater than 0 or not, and multiplies by the advantage: other tokens get a ratio there for the same batch.

    Attributes:
        positive: ``(low, high)``, the bounds of the ratio where ``A > 0``; ``(1, 1)`` is none.
        negative: the same where ``A < 0``; ``high`` may be ``math.inf``.
        positive_weight: what positive examples are multiplied by, not negative. ROLL has such a weight for either
            sign; their quotient is this one.

    Edge cases:
        A token with ``A = 0`` has loss 0 and derivative 0. Separable. Counts ``truncated``: tokens with ``A < 0`` whose
        ratio is out of bounds.

    Raises:
        ValueError: bounds or a weight out of range.
        TypeError: what is no number.

    Source: Le Roux et al. 2025, arXiv 2503.14286.

    >>> import torch
    >>> theta, prox = torch.tensor([-1.0, -1.0]), torch.tensor([-2.0, -2.0])
    >>> TOPR().token_loss(Tokens.of(theta, torch.tensor([1.0, -1.0]), prox=prox)).gradient
    tensor([-1.,  1.])
    """

    homogeneous: ClassVar[bool] = True
    positive: tuple[float, float] = (1.0, 1.0)
    negative: tuple[float, float] = (0.0, 1.0)
    positive_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            object.__setattr__(self, name, interval_of("TOPR", name, getattr(self, name)))
        object.__setattr__(self, "positive_weight", real("TOPR", "positive_weight", self.positive_weight, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        ratio, a = tokens.ratio, tokens.advantages
        slope = ratio.clamp(*self.positive).mul_(a.clamp(min=0)).mul_(-self.positive_weight)
        slope.addcmul_(ratio.clamp(*self.negative), a.clamp(max=0), value=-1)
        low, high = self.negative
        outside = above(ratio, high).add_(below(ratio, low)).mul_(below(a, 0))
        return score_loss(tokens, slope, {"truncated": tokens.total(outside)})
