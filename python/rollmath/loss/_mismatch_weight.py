"""ImportanceWeight: truncated and masked importance weights of the mismatch between trainer and sampler."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rollmath._arrays import choice, frozen
from rollmath._checks import flag, real
from rollmath._logprobs import LogProbs
from rollmath.loss._check import require
from rollmath.loss._mismatch_ratio import Missing, RatioLevel, check_level, interval, log, log_ratio
from rollmath.loss._tokens import Tokens, above, below, exp
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.loss._spans import How, Level


@dataclass(frozen=True, eq=False)
class WeightPart:
    """What the mean weight of a step is made of, for some of its rows (see :meth:`ImportanceWeight.prepare`).

    Attributes:
        sums: a sum of weights of each row, float64 ``[rows]``.
        count: the number of tokens, rows or rollouts that the mean is over.
    """

    sums: NDArray[np.float64]
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "sums", frozen(self.sums))


@dataclass(frozen=True)
class ImportanceWeight:
    r"""Importance weights: the ratio of trainer to sampler, truncated to bounds or zeroed outside.

    With ``r`` the ratio of a token, or of a turn, row or rollout, and ``bounds = (lo, hi)``::

        outside="truncate"   w = min(max(r, lo), hi)             truncated importance sampling (TIS)
        outside="zero"       w = r if lo <= r <= hi, else 0      masked importance sampling (MIS, IcePop)

    ``w`` is a constant: no gradient flows through it. On a level above the token, ``r = exp(sum_t log r_t)``
    (``reduce="product"``) or ``exp(mean_t log r_t)`` (``"geometric_mean"``) over the trained tokens there, and all of
    them have the same weight. Everything is in logs, sums are float64; a ratio on a bound is inside.

    With ``normalize``, ``w`` is divided by its mean over the whole step, which takes a pass before the losses::

        parts = [weight.prepare(logprobs, rows) for logprobs, rows in micro_batches]   # gathered from all ranks
        weight = weight.with_parts(parts)

    Attributes:
        bounds: ``(lo, hi)`` of the ratio with ``0 <= lo <= hi``, ``hi`` maybe infinite; one number is ``(0, hi)``.
        outside: ``"truncate"`` or ``"zero"``.
        level: what has one weight: ``"token"``, ``"turn"`` (a run of trained tokens), ``"row"`` (a sequence through the
            model) or ``"rollout"`` (all its rows, which must then be in one call).
        reduce: ``"product"`` or ``"geometric_mean"``; the same for tokens.
        ratio: what is divided by what: ``"prox/behaviour"``, the mismatch alone, beside an objective whose ratio is
            theta / prox; ``"theta/behaviour"``, all of the drift, beside one without a ratio; ``"theta/prox"``.
        missing: tokens whose behaviour is NaN, which a sampler did not score: ``"nan"`` makes the loss NaN, so that it
            is seen on every device without waiting for it; ``"one"`` takes their ratio for 1; ``"zero"`` does so within
            the ratio of a row and gives the tokens themselves weight 0.
        normalize: divide by the mean over the step.
        step_mean: that mean; :meth:`with_parts` sets it.

    Counts ``importance_low`` and ``importance_high``, the share of tokens whose ratio is below or above the bounds.

    What others call it:

    ================================================ ==============================================================
    elsewhere                                        here
    ================================================ ==============================================================
    verl rollout_is=token, threshold 2.0             ``ImportanceWeight(2.0)``
    verl rollout_is=sequence                         ``ImportanceWeight(2.0, level="row")``
    verl threshold "0.5_5.0"; slime, NeMo-RL icepop  ``ImportanceWeight((0.5, 5.0), outside="zero")``
    verl rollout_is_batch_normalize                  ``normalize=True``
    TRL sequence_mask, cap 3.0 (its default)         ``ImportanceWeight(3.0, level="row", outside="zero")``, and
                                                     ``missing="one"``
    TRL token_truncate, token_mask                   ``level="token"`` with ``outside="truncate"``, ``"zero"``
    OpenRLHF tis, icepop; slime tis                  ``ImportanceWeight((lo, hi))``, ``outside="zero"``
    AReaL ratio, token, clamp or mask                ``ImportanceWeight((lo, hi))``, ``outside="zero"``
    AReaL ratio, sequence                            ``level="row", reduce="geometric_mean"``
    ROLL segment                                     ``level="turn", reduce="geometric_mean"``
    ================================================ ==============================================================

    verl clamps log-ratios to plus or minus 20 first, which only shows without an upper bound below 4.8e8 or with a
    lower bound below 2.1e-9. In that table verl and TRL are compared by running them, the others by reading them, ROLL
    by a description of it (unverified).

    Raises:
        ValueError: bounds out of order, an unknown choice; in a loss: ``normalize`` without its mean, or
            log-probabilities without behaviour.
        TypeError: bounds that are no numbers.

    Source: truncation: Ionides 2008, "Truncated importance sampling"; between sampler and trainer: Yao et al. 2025,
    "Your efficient RL framework secretly brings you off-policy RL training"; masking by bounds (IcePop): arXiv
    2510.18855.

    >>> tokens = Tokens.of(
    ...     torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]), behaviour=torch.tensor([-1.1, -9.0])
    ... )
    >>> ImportanceWeight(2.0).weigh(tokens)[0], ImportanceWeight(2.0, outside="zero").weigh(tokens)[0]
    (tensor([1.1052, 2.0000]), tensor([1.1052, 0.0000]))
    """

    bounds: tuple[float, float] | float = (0.0, 2.0)
    _: KW_ONLY
    outside: Literal["truncate", "zero"] = "truncate"
    level: RatioLevel = "token"
    reduce: Literal["product", "geometric_mean"] = "product"
    ratio: Literal["prox/behaviour", "theta/behaviour", "theta/prox"] = "prox/behaviour"
    missing: Missing = "nan"
    normalize: bool = False
    step_mean: float | None = None

    def __post_init__(self) -> None:
        who = "ImportanceWeight"
        object.__setattr__(self, "bounds", interval(who, self.bounds, 0.0))
        choice(who, "outside", self.outside, ("truncate", "zero"))
        choice(who, "reduce", self.reduce, ("product", "geometric_mean"))
        check_level(who, self.level, self.ratio, self.missing, ("prox/behaviour", "theta/behaviour", "theta/prox"))
        object.__setattr__(self, "normalize", flag(who, "normalize", self.normalize))
        if self.step_mean is not None:
            object.__setattr__(self, "step_mean", real(who, "step_mean", self.step_mean, above=0.0))
            if not self.normalize:
                msg = f"{who}(): 'step_mean' must be None without normalize=True, got {self.step_mean}"
                raise ValueError(msg)

    @property
    def coupled(self) -> bool:
        """Whether the weight of a token depends on other tokens of its rollout."""
        return self.level != "token"

    def weigh(self, tokens: Tokens) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The weight of each token, and the counts."""
        if self.normalize and self.step_mean is None:
            msg = (
                "ImportanceWeight(): 'normalize' needs the mean weight of the whole step: pass "
                "weight.with_parts([weight.prepare(logprobs, rows), ...]), a part for each micro-batch and rank"
            )
            raise ValueError(msg)
        return self._weigh(tokens, self.step_mean)

    def _weigh(self, tokens: Tokens, mean: float | None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        lo, hi = self.bounds if isinstance(self.bounds, tuple) else (0.0, self.bounds)
        x, present = log_ratio("ImportanceWeight", tokens, self.ratio, self.missing)
        level: Level | None = None if self.level == "token" else self.level
        if level is not None:
            how: How = "sum" if self.reduce == "product" else "mean"
            x = tokens.reduce(x, level, how)
        low, high = below(x, log(lo)), above(x, log(hi))
        least, most = (min(bound, torch.finfo(tokens.theta.dtype).max) for bound in (lo, hi))
        weight = exp(x).clamp_(least if self.outside == "truncate" else 0.0, most)
        if self.outside == "zero":
            weight.mul_(1 - low - high)
        if mean is not None:
            weight.div_(mean)
        if level is None:
            counts = {"importance_low": tokens.total(low), "importance_high": tokens.total(high)}
        else:
            sizes = tokens.sizes(level)
            counts = {"importance_low": (low * sizes).sum(), "importance_high": (high * sizes).sum()}
            weight = tokens.spread(weight, level)
        return (weight * present if self.missing == "zero" and present is not None else weight), counts

    def prepare(self, logprobs: LogProbs, rows: Rows) -> WeightPart:
        """What these rows add to the mean weight of the step, for :meth:`with_parts`.

        The mean is over trained tokens for the levels ``"token"`` and ``"turn"``, else over the rows or rollouts that
        have any. The part is on the host and pickles; from a GPU it is one copy, which waits for it.

        Args:
            logprobs: as for :func:`policy_loss`.
            rows: the same rows; those of a rollout together.

        Raises:
            ValueError: log-probabilities that do not fit the rows, or lack behaviour.
            TypeError: arguments of the wrong type.
        """
        # Loaded here: the engine knows this class as a Correction.
        from rollmath.loss._mismatch_report import weights_of  # noqa: PLC0415

        raw = replace(self, normalize=False, step_mean=None)
        weights = weights_of("ImportanceWeight.prepare", logprobs, rows, raw)[0].double()
        lengths = torch.from_numpy(rows.lengths.copy()).to(weights.device)
        if weights.dim() == 2:
            # Packed first: how torch sums a padded row depends on its width, and the last bit with it.
            weights = weights[torch.arange(weights.shape[1], device=weights.device) < lengths[:, None]]
        sums = torch.segment_reduce(weights, "sum", lengths=lengths, unsafe=True, initial=0).cpu().numpy()
        live = rows.trained > 0
        if self.level in {"token", "turn"}:
            return WeightPart(sums[live], int(rows.trained.sum()))
        if self.level == "row":
            return WeightPart(sums[live] / rows.trained[live], int(live.sum()))
        index = rows.rollouts.index
        tokens = np.bincount(index, weights=rows.trained, minlength=rows.n_rollouts)
        return WeightPart(sums[live] / tokens[index[live]], int((tokens > 0).sum()))

    def with_parts(self, parts: Iterable[WeightPart]) -> ImportanceWeight:
        """The same with the mean of the parts, of all micro-batches and ranks, in any order.

        However the step is split, the mean has the same bits if the weights have: sums are rounded once. If all weights
        of the step are 0, or it has no tokens, the mean is taken for 1.

        Raises:
            ValueError: a mean that is not finite, for a weight was NaN or infinite.
            TypeError: a part that is no WeightPart.
        """
        who = "ImportanceWeight.with_parts"
        require(who, "parts", parts, Iterable, "an iterable of WeightParts")
        given = list(parts)
        for number, part in enumerate(given):
            require(who, f"parts[{number}]", part, WeightPart, "a WeightPart, see ImportanceWeight.prepare")
        count = sum(part.count for part in given)
        # Rounded once, so that the order of the rows does not matter.
        mean = math.fsum(x for part in given for x in part.sums.tolist()) / max(count, 1)
        if not math.isfinite(mean):
            msg = f"{who}(): 'parts' must have finite weights, got a mean of {mean}; see 'missing' for NaN in behaviour"
            raise ValueError(msg)
        return replace(self, normalize=True, step_mean=mean or 1.0)
