"""A checked call of policy_loss, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from rollmath._logprobs import LogProbs
from rollmath.loss._arithmetic import Rules
from rollmath.loss._batch import BatchObjective
from rollmath.loss._metrics import LossMetrics
from rollmath.loss._terms import EntropyBonus
from rollmath.loss._values import Values, on
from rollmath.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Call:
    """A checked call of policy_loss.

    Attributes:
        weights: weight of a token of each row, float64 ``[n_rows]``.
        weight: further weights of the policy term.
        finish: whether loss and metrics are wanted, not the sums that they are made of.
        tokens: trained tokens of the whole step.
        scale: what the trainer wants the loss multiplied by.
    """

    rules: Rules
    logprobs: LogProbs
    rows: Rows
    advantages: Values
    weights: NDArray[np.float64]
    weight: Values | None = None
    entropy: EntropyBonus | None = None
    entropy_weight: Values | None = None
    compiled: bool = False
    finish: bool = False
    tokens: int = 1
    scale: float = 1.0

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the arithmetic."""
        return torch.float64 if self.logprobs.theta.dtype == torch.float64 else torch.float32

    def selected(self) -> torch.Tensor | None:
        """1.0 at the tokens that a batch-coupled objective has chosen, flat in the shape of theta."""
        if not isinstance(self.rules.objective, BatchObjective):
            return None
        theta, offsets = self.logprobs.theta, self.rows.offsets
        row, position = self.rules.objective.chosen(self.rules.who).among(self.rules.who, self.rows)
        flat = position + (offsets[row] if theta.dim() == 1 else row * theta.shape[1])
        return torch.zeros(theta.numel(), dtype=self.dtype, device=theta.device).index_fill_(0, on(flat, theta), 1)


class Finished(NamedTuple):
    """The loss, times the scale, and its metrics."""

    value: torch.Tensor
    metrics: LossMetrics


class Result(NamedTuple):
    """Derivatives with respect to flattened theta and entropies, before the scale of the trainer.

    Attributes:
        sums: named sums; none where all is finished.
        finished: loss and metrics, where they are made already.
    """

    theta: torch.Tensor
    entropy: torch.Tensor | None
    sums: dict[str, torch.Tensor]
    finished: Finished | None = None
