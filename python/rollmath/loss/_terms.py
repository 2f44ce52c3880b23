"""Terms beside the objective: the entropy bonus, and what a mismatch correction is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import torch

from rollmath._arrays import ArrayLike, describe
from rollmath._checks import real
from rollmath._logprobs import unnested

if TYPE_CHECKING:
    from rollmath.loss._tokens import Tokens


@runtime_checkable
class Correction(Protocol):
    """What reweights the policy term because the policy that sampled is not the one that is trained.

    One of your own is any object with these two, say a frozen dataclass. If it reads ``tokens.advantages``, give it
    ``reads_advantages = True`` too, so that :func:`mismatch` and :func:`correction_weights` ask for them.

    >>> @dataclass(frozen=True)
    ... class RootWeight:
    ...     coupled = False
    ...
    ...     def weigh(self, tokens):
    ...         weight = (0.5 * (tokens.prox - tokens.behaviour)).exp()
    ...         return weight, {"root_weight": tokens.total(weight)}
    >>> isinstance(RootWeight(), Correction)
    True
    """

    @property
    def coupled(self) -> bool:
        """Whether the weight of a token depends on other tokens of its rollout."""
        ...

    def weigh(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """A constant weight for each token, and named sums over the trained tokens for the metrics.

        The sums are 0-d tensors (``tokens.total``); those whose name ends in ``_max`` are maxima instead.
        """
        ...


@dataclass(frozen=True, eq=False)
class EntropyBonus:
    """Subtracts ``coef * H_t`` from the loss of each token, with the weight that the aggregation gives it.

    Attributes:
        values: entropy of the policy at each position, in the shape of the log-probabilities; its gradient flows
            (:func:`rollmath.vocab.row_stats` gives it).
        coef: the coefficient, of any sign.
        weight: constants that the bonus is multiplied by, at any level that advantages may have, say the 0/1 mask of
            high entropy; None for 1.

    Raises:
        ValueError: a coefficient that is not finite.
        TypeError: values that are no float tensor.

    >>> EntropyBonus(torch.tensor([0.5, 0.7]), coef=0.01)
    EntropyBonus(float32 [2], coef=0.01)
    """

    values: torch.Tensor
    coef: float
    weight: ArrayLike | None = None

    def __post_init__(self) -> None:
        values: Any = self.values
        if not isinstance(values, torch.Tensor) or not values.is_floating_point():
            msg = f"EntropyBonus(): 'values' must be a float tensor, got {describe(values)}"
            raise TypeError(msg)
        values, offsets = unnested("EntropyBonus", "values", values)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "_offsets", offsets)
        object.__setattr__(self, "coef", real("EntropyBonus", "coef", self.coef))

    @property
    def offsets(self) -> torch.Tensor | None:
        """The offsets of values that came as a jagged tensor."""
        return cast("torch.Tensor | None", self.__dict__["_offsets"])

    def __repr__(self) -> str:
        dtype = str(self.values.dtype).removeprefix("torch.")
        weighted = "" if self.weight is None else ", weighted"
        return f"EntropyBonus({dtype} {list(self.values.shape)}, coef={self.coef}{weighted})"
