"""The mismatch between sampler and trainer without a loss: what it is, and the weights against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from rollmath._arrays import ArrayLike
from rollmath._logprobs import LogProbs
from rollmath.loss._arithmetic import Rules
from rollmath.loss._call import Call
from rollmath.loss._check import require
from rollmath.loss._engine import evaluate
from rollmath.loss._metrics import LossMetrics
from rollmath.loss._mismatch_compose import Corrections, as_correction
from rollmath.loss._normalizer import Normalizer
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._places import check_shape
from rollmath.loss._terms import Correction
from rollmath.loss._tokens import Tokens
from rollmath.loss._values import Values
from rollmath.rows import Rows

#: Counts of the pass over the tokens that are not of a correction.
NOT_OURS = ("policy_loss", "signal", "log_ratio", "approx_kl", "ratio", "ratio_max")

#: Less than one token in any step, more than what rounding leaves of none.
LEAST_SHARE = 1e-12


class MismatchReport(NamedTuple):
    """What :func:`mismatch_report` makes of metrics. ``r = prox / behaviour`` of a token.

    Attributes:
        k1: mean of ``-log r``, an estimate of KL(behaviour || prox) in nats a token.
        k3: mean of ``r - 1 - log r``, another, of less variance.
        chi_square: mean of ``r^2 - 1``, an estimate of the chi-square divergence of prox from behaviour.
        perplexity_ratio: ``exp(k1)``, the perplexity of prox over that of behaviour, on all tokens.
        log_ratio_abs: mean of ``|log r|``.
        log_ratio_abs_max: the largest.
        missing: share of tokens whose behaviour is NaN. They are left out of everything above.
        weight: mean weight of the corrections.
        kept: share of tokens with a weight other than 0.
        effective_sample_size: ``(sum w)^2 / (n sum w^2)``, from 1/n to 1.
    """

    k1: float
    k3: float
    chi_square: float
    perplexity_ratio: float
    log_ratio_abs: float
    log_ratio_abs_max: float
    missing: float
    weight: float
    kept: float
    effective_sample_size: float


def mismatch(
    logprobs: LogProbs,
    rows: Rows,
    *,
    correction: Correction | Sequence[Correction] | None = None,
    advantages: ArrayLike | None = None,
    level: Literal["rollout", "row", "turn", "token"] | None = None,
    normalizer: Normalizer | None = None,
) -> LossMetrics:
    """How far prox is from behaviour, and what a correction would do: the mean of ``-log r``, ``r^2 - 1``, ``w``, ...

    The metrics are those that :func:`policy_loss` has with a correction, see :class:`Corrections`: sums over trained
    tokens divided by the tokens of the step. Merge those of micro-batches and ranks by ``LossMetrics.merge`` and read
    them with :func:`mismatch_report`.

    Args:
        logprobs: with ``behaviour``; without ``prox``, theta is measured. Packed, jagged or padded.
        rows: which tokens these are, and which of them are trained.
        correction: a :class:`Correction` or a tuple of them; None: weights of 1.
        advantages: as for :func:`policy_loss`; needed by a :class:`Gate` with ``when="negative_advantage"``.
        level: what ``advantages`` has one value of.
        normalizer: counts of the whole step; None if these rows are all of it.

    Returns:
        :class:`LossMetrics`, on the device of the log-probabilities.

    Edge cases:
        No trained token: all 0. A NaN in prox makes metrics NaN, in behaviour it is counted as missing.

    Raises:
        ValueError: no behaviour, shapes that do not fit, advantages that are needed and not given.
        TypeError: arguments of the wrong type.

    Source: estimators: Schulman 2020, "Approximating KL divergence"; the set of diagnostics is verl's.

    >>> from rollmath.loss import mismatch_report
    >>> rows = Rows(["a", "b"], [1, 1])
    >>> lp = LogProbs(torch.tensor([-1.0, -2.0]), behaviour=torch.tensor([-1.5, -1.5]))
    >>> report = mismatch_report(mismatch(lp, rows))
    >>> round(report.k1, 4), round(report.k3, 4), report.log_ratio_abs_max
    (0.0, 0.1276, 0.5)
    """
    who = "mismatch"
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., behaviour=...)")
    if logprobs.behaviour is None:
        msg = f"{who}(): 'logprobs' must have 'behaviour', the log-probabilities that the sampler reported"
        raise ValueError(msg)
    require(who, "rows", rows, Rows, "Rows")
    if normalizer is None:
        normalizer = Normalizer.local(rows)
    require(who, "normalizer", normalizer, Normalizer, "a Normalizer (see Normalizer.local)")
    normalizer.totals(who, rows)
    parts = Corrections(()) if correction is None else as_correction(who, correction)
    sums = weights_of(who, logprobs, rows, parts, advantages=advantages, level=level)[1]
    tokens = max(normalizer.tokens, 1)
    return LossMetrics({name: x if name.endswith("_max") else x / tokens for name, x in sums.items()})


def mismatch_report(metrics: LossMetrics) -> MismatchReport:
    """Diagnostics of the mismatch from the metrics of a step, such as ``(mean w)^2 / mean w^2``.

    Args:
        metrics: of all micro-batches and ranks together (``LossMetrics.merge``), from :func:`policy_loss` with a
            correction or from :func:`mismatch`. Reading them waits for the device.

    Returns:
        A :class:`MismatchReport` of floats.

    Edge cases:
        The effective sample size of weights that are all 0 is NaN; and so is what compares with behaviour if all tokens
        are without one, or ``logprobs`` had none.

    Raises:
        ValueError: metrics of a loss without a correction.
        TypeError: no LossMetrics.

    Source: effective sample size: Kong 1992, "A note on importance sampling using standardized weights".

    >>> from rollmath.loss import ImportanceWeight, mismatch
    >>> rows = Rows(["a", "b"], [1, 1])
    >>> lp = LogProbs(torch.tensor([-1.0, -2.0]), behaviour=torch.tensor([-2.0, -2.0]))
    >>> report = mismatch_report(mismatch(lp, rows, correction=ImportanceWeight((0.5, 2.0), outside="zero")))
    >>> report.weight, report.kept, report.effective_sample_size
    (0.5, 0.5, 0.5)
    """
    who = "mismatch_report"
    require(who, "metrics", metrics, LossMetrics, "LossMetrics")
    if "mismatch_weight" not in metrics:
        msg = f"{who}(): 'metrics' must be those of a loss with a correction, or of mismatch(), got {list(metrics)}"
        raise ValueError(msg)
    m = metrics.to_dict()
    missing = m.get("mismatch_missing", 1.0)
    # The shares of micro-batches may add up to a little less than 1.
    share = math.nan if 1 - missing < LEAST_SHARE else 1 - missing
    k1 = m.get("mismatch_k1", math.nan) / share
    square = m["mismatch_weight_square"]
    return MismatchReport(
        k1=k1,
        k3=m.get("mismatch_k3", math.nan) / share,
        chi_square=m.get("mismatch_chi_square", math.nan) / share,
        perplexity_ratio=math.exp(min(k1, 700.0)),
        log_ratio_abs=m.get("mismatch_abs", math.nan) / share,
        log_ratio_abs_max=m.get("mismatch_abs_max", math.nan),
        missing=missing,
        weight=m["mismatch_weight"],
        kept=m["mismatch_kept"],
        effective_sample_size=m["mismatch_weight"] ** 2 / square if square else math.nan,
    )


def correction_weights(
    logprobs: LogProbs,
    rows: Rows,
    correction: Correction | Sequence[Correction],
    *,
    advantages: ArrayLike | None = None,
    level: Literal["rollout", "row", "turn", "token"] | None = None,
) -> torch.Tensor:
    """The weight ``w_1 w_2 ...`` of each token alone, for a trainer that multiplies it into a loss of its own.

    Args:
        logprobs: with what the corrections read. Packed, jagged or padded.
        rows: which tokens these are, and which of them are trained.
        correction: a :class:`Correction` or a tuple of them.
        advantages: as for :func:`policy_loss`; needed by a :class:`Gate` with ``when="negative_advantage"``.
        level: what ``advantages`` has one value of.

    Returns:
        Weights in the shape of the log-probabilities (packed for a jagged tensor), float32, or float64 if theta is.
        Constants; 0 at gaps and in padding.

    Raises:
        ValueError: a policy that a correction reads and ``logprobs`` lacks, shapes that do not fit, advantages that are
            needed and not given.
        TypeError: arguments of the wrong type.

    Source: see the corrections.

    >>> from rollmath.loss import ImportanceWeight
    >>> rows = Rows(["a"], [3], mask=[1, 0, 1])
    >>> lp = LogProbs(torch.zeros(3), behaviour=torch.tensor([-0.5, 0.0, -3.0]))
    >>> correction_weights(lp, rows, ImportanceWeight(2.0))
    tensor([1.6487, 0.0000, 2.0000])
    """
    who = "correction_weights"
    return weights_of(who, logprobs, rows, as_correction(who, correction), advantages=advantages, level=level)[0]


class _Ones(Objective):
    """Its derivative is the weight of each token."""

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        ones = torch.ones_like(tokens.theta)
        return TokenLoss(ones, tokens.weighted(ones))


def weights_of(
    who: str,
    logprobs: LogProbs,
    rows: Rows,
    correction: Correction,
    *,
    advantages: ArrayLike | None = None,
    level: Literal["rollout", "row", "turn", "token"] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The weights in the shape of the log-probabilities, 0 where nothing is trained, and the sums of the correction."""
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., behaviour=...)")
    require(who, "rows", rows, Rows, "Rows")
    check_shape(who, "logprobs", rows, logprobs.shape)
    if advantages is None:
        if getattr(correction, "reads_advantages", False):
            msg = f"{who}(): 'advantages' must be given for a correction that depends on them"
            raise ValueError(msg)
        advantages, level = np.zeros(rows.n_rollouts), "rollout"
    # Weights of 1 where a loss has those of its aggregation; where nothing is trained the pass makes them 0.
    call = Call(
        rules=Rules(who, _Ones(), correction),
        logprobs=logprobs,
        rows=rows,
        advantages=Values(who, "advantages", advantages, rows, level),
        weights=(rows.trained > 0).astype(np.float64),
    )
    with torch.no_grad():
        result = evaluate(call)
    sums = {name: x for name, x in result.sums.items() if name not in NOT_OURS}
    return result.theta.view(logprobs.shape), sums
