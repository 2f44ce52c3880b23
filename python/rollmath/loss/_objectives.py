"""What an objective is: a loss a token and the derivative of the batch's loss, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import torch

from rollmath.loss._tokens import Tokens

NOTHING: Mapping[str, torch.Tensor] = MappingProxyType({})


class TokenLoss(NamedTuple):
    """What an objective makes of some :class:`Tokens`.

    Attributes:
        loss: the loss L_t of each token, before its weight.
        gradient: derivative of ``sum_t weight_t L_t`` with respect to the log-probability of each token.
        counts: named sums over the trained tokens, 0-d tensors each (``tokens.total``), such as how many were clipped;
            they become metrics, divided by the trained tokens of the step. Names that end in ``_max`` are maxima.
        total: sum of ``loss`` over the trained tokens, 0-d float64, where it is known anyway.
    """

    loss: torch.Tensor
    gradient: torch.Tensor
    counts: Mapping[str, torch.Tensor] = NOTHING
    total: torch.Tensor | None = None


class Objective:
    """Base of the objectives: small frozen dataclasses with :meth:`token_loss`. Yours can be one too.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Reinforce(Objective):
    ...     def token_loss(self, tokens):
    ...         slope = -tokens.advantages
    ...         return TokenLoss(loss=slope * tokens.theta, gradient=tokens.weighted(slope))

    Attributes:
        coupling: ``"separable"`` if the loss of a token depends on that token alone; ``"sequence"`` if on other tokens
            of its row or rollout, whose rows then must all be in one call; ``"batch"`` if on statistics of the whole
            step, which two passes give.
        homogeneous: True if the loss is proportional to the size of the advantage: ``L(c A) = c L(A)`` for ``c > 0``,
            for any sign of A. Copies of a token in several rollouts can then be summed, as
            :func:`rollmath.prefix.merged_loss` does. A subclass with a ``token_loss`` of its own must say so itself.
    """

    coupling: ClassVar[Literal["separable", "sequence", "batch"]] = "separable"
    homogeneous: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "token_loss" in cls.__dict__ and "homogeneous" not in cls.__dict__:
            cls.homogeneous = False

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token.

        On a GPU it runs once with tensors on the device ``"meta"``, which have no numbers, and a kernel does the same
        from then on, until a field of the dataclass, or a number or function that the code reads, is another. What
        cannot be done without numbers, has no kernel, or reads what can change in place, such as a global list, runs
        as it is.
        """
        raise NotImplementedError(f"{type(self).__name__} must define token_loss(self, tokens)")
