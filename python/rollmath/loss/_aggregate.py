"""Aggregations: the weight that the loss of a token has in that of the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import choice, describe
from rollmath._checks import real
from rollmath.loss._check import require
from rollmath.loss._normalizer import Normalizer
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNITS = ("token", "row", "rollout", "prompt", "batch")


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    r"""How token losses become one: ``sum_u (1 / n_u) sum_{t in u} L_t / (number of u * divisor)``.

    The units ``u`` are the rows, rollouts or prompts of the *whole* optimiser step, as a :class:`Normalizer` counts
    them; ``n_u`` is the number of trained tokens of the unit, or 1 with ``within="sum"``.

    The common ones have names, which ``policy_loss(aggregation=...)`` takes as strings:

    ========================== ======================================== ==================================
    name                       is                                       elsewhere
    ========================== ======================================== ==================================
    token_mean                 ``unit="token"``                         verl token-mean; TRL dapo, cispo
    token_sum                  ``unit="batch", within="sum"``           verl token-sum
    seq_mean_token_mean        ``unit="row"``                           verl; TRL grpo, sapo
    seq_mean_token_sum         ``unit="row", within="sum"``             verl; TRL luspo
    rollout_mean_token_mean    ``unit="rollout"``                       slime, per rollout
    rollout_mean_token_sum     ``unit="rollout", within="sum"``
    prompt_mean_token_mean     ``unit="prompt"``                        SkyRL prompt_mean
    prompt_mean_token_sum      ``unit="prompt", within="sum"``
    ========================== ======================================== ==================================

    Dr. GRPO and verl's seq-mean-token-sum-norm are ``Aggregation(unit="row", within="sum", divisor=max_length)``.

    Attributes:
        unit: ``"token"``, ``"row"`` (a sequence through the model), ``"rollout"`` (all rows of it), ``"prompt"`` or
            ``"batch"``, which counts as one.
        within: ``"mean"`` or ``"sum"`` over the trained tokens of a unit.
        divisor: a constant to divide by.
        empty: whether units without a trained token are counted: ``"exclude"`` (verl) or ``"include"`` (TRL).

    Raises:
        ValueError: an unknown choice, or a divisor that is not finite and positive.
        TypeError: a divisor that is no number.

    Source: token mean: DAPO, arXiv 2503.14476; sequence mean: GRPO, arXiv 2402.03300; constant: Dr. GRPO, arXiv
    2503.20783.

    >>> Aggregation.named("seq_mean_token_sum")
    Aggregation(unit='row', within='sum', divisor=1.0, empty='exclude')
    """

    unit: Literal["token", "row", "rollout", "prompt", "batch"]
    within: Literal["mean", "sum"] = "mean"
    divisor: float = 1.0
    empty: Literal["exclude", "include"] = "exclude"

    def __post_init__(self) -> None:
        choice("Aggregation", "unit", self.unit, UNITS)
        choice("Aggregation", "within", self.within, ("mean", "sum"))
        choice("Aggregation", "empty", self.empty, ("exclude", "include"))
        object.__setattr__(self, "divisor", real("Aggregation", "divisor", self.divisor, above=0.0))

    @staticmethod
    def named(name: str) -> Aggregation:
        """The aggregation of that name.

        Raises:
            ValueError: an unknown name.
        """
        choice("Aggregation.named", "name", name, tuple(AGGREGATIONS))
        return AGGREGATIONS[name]

    def weights(self, rows: Rows, normalizer: Normalizer, *, who: str = "Aggregation.weights") -> NDArray[np.float64]:
        """The weight of a trained token of each row, float64 ``[n_rows]``; 0 in a row that has none.

        Raises:
            ValueError: a normalizer of another batch, with fewer tokens than the rows, or without the prompts needed.
            TypeError: arguments of the wrong type.
        """
        require(who, "rows", rows, Rows, "Rows")
        require(who, "normalizer", normalizer, Normalizer, "a Normalizer (see Normalizer.local)")
        totals = normalizer.totals(who, rows)
        units = 1 if self.unit == "batch" else getattr(normalizer, f"{self.unit}s")
        if self.empty == "include" and self.unit in {"row", "rollout", "prompt"}:
            units += getattr(normalizer, f"empty_{self.unit}s")
        members = self._members(who, rows, normalizer, totals)
        with np.errstate(divide="ignore"):
            weights = 1.0 / (units * self.divisor) / members if units else np.zeros(rows.n_rows)
        return np.where(rows.trained > 0, weights, 0.0)

    def _members(
        self, who: str, rows: Rows, normalizer: Normalizer, totals: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        """Trained tokens of the unit of each row, or 1."""
        ones = np.ones(rows.n_rows, np.int64)
        if self.unit == "prompt" and normalizer.prompt_tokens is None:
            msg = f"{who}(): 'normalizer' must know the prompt of each rollout: Normalizer.local(rows, prompts=...)"
            raise ValueError(msg)
        if self.within == "sum" or self.unit == "token":
            return ones
        if self.unit == "row":
            if normalizer.context_parallel > 1:
                msg = (
                    f"{who}(): 'aggregation' over rows needs whole rows, but the normalizer has context_parallel="
                    f"{normalizer.context_parallel}; use unit='rollout', whose tokens the normalizer knows"
                )
                raise ValueError(msg)
            return rows.trained
        if self.unit == "batch":
            return ones * normalizer.tokens
        if self.unit == "prompt" and normalizer.prompt_tokens is not None and normalizer.rollout_prompts is not None:
            tokens, prompts = normalizer.prompt_tokens, normalizer.rollout_prompts
            totals = np.array([tokens[prompts[key]] for key in rows.rollouts.ids], np.int64)
        elif totals is None and normalizer.context_parallel > 1:
            msg = f"{who}(): 'normalizer' must be made by Normalizer.local where the tokens of a row are split"
            raise ValueError(msg)
        elif totals is None:
            totals = rows.trained_of_rollout
        return totals[rows.rollouts.index]


AGGREGATIONS = {
    "token_mean": Aggregation(unit="token"),
    "token_sum": Aggregation(unit="batch", within="sum"),
    "seq_mean_token_mean": Aggregation(unit="row"),
    "seq_mean_token_sum": Aggregation(unit="row", within="sum"),
    "rollout_mean_token_mean": Aggregation(unit="rollout"),
    "rollout_mean_token_sum": Aggregation(unit="rollout", within="sum"),
    "prompt_mean_token_mean": Aggregation(unit="prompt"),
    "prompt_mean_token_sum": Aggregation(unit="prompt", within="sum"),
}


def as_aggregation(who: str, aggregation: object) -> Aggregation:
    """An :class:`Aggregation` from itself or its name.

    Raises:
        ValueError: an unknown name.
        TypeError: neither.
    """
    if isinstance(aggregation, Aggregation):
        return aggregation
    if not isinstance(aggregation, str):
        msg = f"{who}(): 'aggregation' must be a name or an Aggregation, got {describe(aggregation)}"
        raise TypeError(msg)
    choice(who, "aggregation", aggregation, tuple(AGGREGATIONS))
    return AGGREGATIONS[aggregation]
