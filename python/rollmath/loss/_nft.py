"""NFT: supervised learning on right answers, and on wrong ones through the policy that they imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from rollmath._arrays import choice
from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over
from rollmath.loss._tokens import Tokens, above, below, exp, finite


@dataclass(frozen=True)
class NFT(Objective):
    r"""Negative-aware fine-tuning: ``L = -w log rho`` for right answers, ``-w log max(rho_wrong, eps)`` for wrong ones.

    ``rho_wrong = (1 - r rho) / (1 - r)``, ``rho = exp(theta - prox)`` and ``r`` is the share of right answers to
    the prompt. If the sampler is the mixture of a policy of right answers and one of wrong answers, with shares ``r``
    and ``1 - r``, and the trained policy is the first, then ``rho_wrong`` is the ratio of the second, whose likelihood
    is raised on wrong answers.

    Label and rate are read from the advantages, which must be *label minus rate*: ``rollmath.group.dr_grpo`` of 0/1
    rewards, r - mean. ``A > 0`` is a right answer with ``r = 1 - A``, ``A < 0`` a wrong one with ``r = -A``; ``A = 0``,
    where all or none are right, gives no loss.

    The derivative is ``-w`` for right answers and ``w r / (1 - r) rho / max(rho_wrong, eps)`` for wrong ones: the
    maximum is straight-through, so a token at the floor keeps a gradient. On policy (rho = 1, eps of at most 1) it is
    ``-A`` with ``prompt_weight="dr_grpo"``, where ``w = 1 - r``, and ``-A / sqrt(r (1 - r))``, GRPO's, with ``"grpo"``,
    where ``w = sqrt((1 - r) / r)``.

    Attributes:
        prompt_weight: ``"dr_grpo"``, ``"grpo"`` or ``"uniform"`` (w = 1); the official ``normalize`` 1, 2 and 0.
        eps: the floor, positive. At 1.0, the official default, every wrong answer that theta has made likelier is at
            the floor.
        negative_weight: multiplies the loss of wrong answers, not negative. 1.0 is NFT, 0.0 fine-tuning by rejection.
        min_rate: r is clamped to ``[min_rate, 1 - min_rate]``, positive and at most 0.5. The official 0.02 matters in
            groups of more than 50.
        max_log_ratio: theta - prox is clamped to at most this (the official code has 10); beyond it the derivative is
            0. None: as it is.

    The official code sums over tokens and divides by 1000: ``Aggregation(unit="batch", within="sum", divisor=1000)``.
    It also has a form with the ratio of the whole response, which is not here.

    Edge cases:
        Separable. Counts ``floored``: wrong tokens at the floor.

    Raises:
        ValueError: an option out of range; advantages out of [-1, 1], which are not label minus rate (on another
            device than the CPU they make the loss NaN).
        TypeError: an option that is no number.

    Source: NFT, arXiv 2505.18116.

    >>> tokens = Tokens.of(torch.tensor([-1.0, -1.0]), torch.tensor([0.75, -0.25]))  # one of four is right
    >>> NFT().token_loss(tokens).gradient
    tensor([-0.7500,  0.2500])
    """

    prompt_weight: Literal["dr_grpo", "grpo", "uniform"] = "dr_grpo"
    eps: float = 1.0
    negative_weight: float = 1.0
    min_rate: float = 0.02
    max_log_ratio: float | None = None

    def __post_init__(self) -> None:
        choice("NFT", "prompt_weight", self.prompt_weight, ("dr_grpo", "grpo", "uniform"))
        object.__setattr__(self, "eps", real("NFT", "eps", self.eps, above=0.0))
        object.__setattr__(self, "negative_weight", real("NFT", "negative_weight", self.negative_weight, 0.0))
        object.__setattr__(self, "min_rate", real("NFT", "min_rate", self.min_rate, high=0.5, above=0.0))
        object.__setattr__(self, "max_log_ratio", over("NFT", "max_log_ratio", self.max_log_ratio, 0.0))

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        a = _label_minus_rate(tokens.advantages)
        right, wrong = above(a, 0), below(a, 0)
        rate = (right - a).clamp_(self.min_rate, 1 - self.min_rate)
        failure = 1 - rate
        log_ratio = finite(tokens.log_ratio)
        inside: torch.Tensor | float = 1.0
        if self.max_log_ratio is not None:
            inside = 1 - above(log_ratio, self.max_log_ratio)
            log_ratio.clamp_(max=self.max_log_ratio)
        ratio = exp(log_ratio)
        if self.prompt_weight == "uniform":
            weight = torch.ones_like(rate)
        else:
            weight = failure if self.prompt_weight == "dr_grpo" else (failure / rate).sqrt_()
        implied = (1 - rate * ratio).div_(failure)
        floored = implied.clamp(min=self.eps)
        for_wrong = wrong * weight * self.negative_weight
        for_right = right.mul_(weight)
        loss = (for_right * log_ratio).addcmul_(for_wrong, floored.log()).neg_()
        slope = (for_wrong * rate).div_(failure).mul_(ratio).div_(floored).sub_(for_right).mul_(inside)
        # What is not a number in any column is not one in the result.
        slope.add_(log_ratio, alpha=0)
        return TokenLoss(loss, tokens.weighted(slope), {"floored": tokens.total(below(implied, self.eps).mul_(wrong))})


def _label_minus_rate(a: torch.Tensor) -> torch.Tensor:
    """The advantages, if they can be; NaN in place of an error where asking would wait or break the graph."""
    if a.device.type != "cpu" or torch.compiler.is_compiling():
        return a + (1 - a.abs()).sqrt_().mul_(0)
    if len(a) and float(worst := a.abs().amax()) > 1:
        msg = (
            "NFT(): 'advantages' must be label minus success rate, in [-1, 1] (rollmath.group.dr_grpo of 0/1 rewards), "
            f"got {worst:g} in size"
        )
        raise ValueError(msg)
    return a
