"""The policy loss of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch

from rollmath._arrays import ArrayLike
from rollmath._checks import flag
from rollmath._logprobs import LogProbs
from rollmath.loss._aggregate import Aggregation, as_aggregation
from rollmath.loss._arithmetic import Rules
from rollmath.loss._call import Call, Finished, Result
from rollmath.loss._check import require
from rollmath.loss._closed_form import closed_form, eager
from rollmath.loss._engine import evaluate
from rollmath.loss._metrics import TERMS, LossMetrics
from rollmath.loss._mismatch_compose import as_correction
from rollmath.loss._normalizer import Normalizer
from rollmath.loss._objectives import Objective
from rollmath.loss._places import check_offsets, check_shape
from rollmath.loss._terms import Correction, EntropyBonus
from rollmath.loss._values import Values
from rollmath.rows import Rows


class PolicyLoss(NamedTuple):
    """What :func:`policy_loss` returns.

    Attributes:
        loss: what to call ``backward()`` on, 0-d: the loss times the ``scale`` of the normalizer.
        metrics: a :class:`LossMetrics`. ``loss`` (before that scale) and its terms ``policy_loss``, ``kl_loss``,
            ``entropy_loss``; and means over the trained tokens of the step: ``signal`` (tokens whose policy term has a
            gradient), ``log_ratio`` (theta - prox), ``approx_kl`` (``rho - 1 - log rho``, an estimate of KL(prox ||
            theta) that is never negative), ``ratio`` and the largest, ``ratio_max``; ``entropy``; and what the
            objective, the KL term and the correction count, such as ``clip_high``.
    """

    loss: torch.Tensor
    metrics: LossMetrics


@eager
def policy_loss(
    logprobs: LogProbs,
    advantages: ArrayLike,
    rows: Rows,
    objective: Objective,
    *,
    normalizer: Normalizer,
    aggregation: str | Aggregation = "token_mean",
    level: Literal["rollout", "row", "turn", "token"] | None = None,
    weight: ArrayLike | None = None,
    correction: Correction | Sequence[Correction] | None = None,
    kl: Objective | None = None,
    entropy: EntropyBonus | None = None,
    compiled: bool = False,
) -> PolicyLoss:
    r"""Policy loss of the trained tokens, differentiable in theta: ``sum_t w_t (c_t L_t + KL_t - coef H_t)``.

    ``w_t`` is the weight that the aggregation gives to the token, say 1 / trained tokens of the step; ``L_t`` is the
    loss of the objective and ``c_t`` the constant weight of ``correction`` times ``weight``, or 1.

    The gradient is the closed form of the objective, computed with the loss in one pass. Only trained positions count:
    log-probabilities of gaps and of padding may be NaN or infinite, and their gradient is exactly 0. Nothing is read
    back from the device. Under autocast nothing changes; under ``torch.compile`` it is a graph break.

    On a GPU with Triton the forward pass is two launches, for log-probabilities of 16 or 32 bits and any objective, KL
    term and corrections that are frozen dataclasses of plain elementwise torch code, as all here are: one over the
    tokens, made of that code, and one that reduces its sums in a fixed order. What looks at all tokens of a row,
    rollout or turn needs no more, if all that does looks at the same of these. Whatever else takes a launch an
    operation. Kernels compile at the first call of a kind, not anew for other lengths or options. A CUDA graph can
    capture the call, after one with the same rows, which must outlive the graph; then constants must be float tensors
    on the device, one a rollout, row or token, and batch-coupled objectives cannot be captured.

    Args:
        logprobs: :class:`~rollmath.LogProbs`, packed ``[positions]``, jagged, or padded ``[n_rows, T]`` with position
            ``t`` of row ``i`` in column ``t``. Which policies are read is up to the objective and the terms.
        advantages: constants, NumPy or torch: one a rollout ``[n_rollouts]`` in the order of ``rows.rollouts.ids``,
            one a row ``[n_rows]``, one a turn (a run of trained positions, row after row; an agent's step is one), or
            one a position: packed, padded, jagged, or a :class:`~rollmath.Ragged` (``Forest.expand`` of the advantages
            of nodes).
        rows: which tokens these are, and which of them are trained.
        objective: :class:`PPO` or another :class:`Objective`.
        normalizer: counts of the *whole* optimiser step, all micro-batches and ranks, and what the trainer does to the
            gradient; ``Normalizer.local(rows)`` if these rows are all of it.
        aggregation: the name of an :class:`Aggregation`, or one.
        level: what ``advantages`` has one value of; needed for turns, and where its length fits several.
        weight: constants that multiply the policy term, one a rollout, row or token, say a mask of high entropy.
        correction: a :class:`Correction` of the mismatch between sampler and trainer, such as
            :class:`ImportanceWeight` or :class:`Gate`, or a tuple of them; multiplies the policy term.
        kl: a :class:`KL` term, added.
        entropy: an :class:`EntropyBonus`, subtracted.
        compiled: send the arithmetic through ``torch.compile``, which takes seconds at the first call of a kind (of
            objective and options, not of lengths); for objectives and corrections that look at one token at a time.

    Returns:
        A :class:`PolicyLoss`; the loss float32, or float64 if theta is float64. Sums of float32 run in
        float32 over a piece of 2^18 tokens, pairwise, and in float64 beyond.

    Edge cases:
        No trained token here, or in the whole step: loss 0 and gradient 0, never NaN. A NaN log-probability at a
        trained position makes the loss NaN. Advantages at gaps are not read, those of trained tokens must be finite,
        and so in the dtype of the loss; on another device than the CPU they are not checked.

    Raises:
        ValueError: shapes that do not fit the rows, constants that require grad or could be of two levels, a
            normalizer of another batch or with fewer tokens than the rows have, a policy that a term needs and
            ``logprobs`` lacks, a part of a rollout for a term that looks at all of it (where the normalizer was made
            by :meth:`Normalizer.local` and can tell).
        TypeError: arguments of the wrong type.

    Source: PPO, arXiv 1707.06347; the mean over all tokens of the batch: DAPO, arXiv 2503.14476.

    >>> from rollmath import LogProbs, Rows
    >>> from rollmath.loss import PPO
    >>> rows = Rows(["a", "b"], [2, 1])
    >>> theta = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    >>> out = policy_loss(LogProbs(theta), [1.0, -1.0], rows, PPO(), normalizer=Normalizer.local(rows))
    >>> out.loss.backward()
    >>> round(out.loss.item(), 4), theta.grad, out.metrics["ratio"].item()
    (-0.3333, tensor([-0.3333, -0.3333,  0.3333]), 1.0)
    """
    who = "policy_loss"
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., prox=...)")
    require(who, "rows", rows, Rows, "Rows")
    require(who, "objective", objective, Objective, "an Objective, such as PPO()")
    if kl is not None:
        require(who, "kl", kl, Objective, "a KL term, such as KL(0.01)")
    if entropy is not None:
        require(who, "entropy", entropy, EntropyBonus, "an EntropyBonus")
        if tuple(entropy.values.shape) != logprobs.shape or entropy.values.device != logprobs.theta.device:
            msg = (
                f"{who}(): 'entropy' must have values of shape {logprobs.shape} on {logprobs.theta.device}, as theta, "
                f"got {tuple(entropy.values.shape)} on {entropy.values.device}"
            )
            raise ValueError(msg)
    check_shape(who, "logprobs", rows, logprobs.shape)
    for name, offsets in logprobs.jagged.items():
        check_offsets(who, f"logprobs.{name}", rows, offsets)
    if entropy is not None:
        check_offsets(who, "entropy.values", rows, entropy.offsets)
    weights = as_aggregation(who, aggregation).weights(rows, normalizer, who=who)
    corrected = None if correction is None else as_correction(who, correction)
    rules = Rules(who, objective, corrected, kl, None if entropy is None else entropy.coef)
    _check_whole(rules, rows, normalizer)
    call = Call(
        rules=rules,
        logprobs=logprobs,
        rows=rows,
        advantages=Values(who, "advantages", advantages, rows, level),
        weights=weights,
        weight=None if weight is None else Values(who, "weight", weight, rows, None),
        entropy=entropy,
        entropy_weight=None
        if entropy is None or entropy.weight is None
        else Values(who, "entropy.weight", entropy.weight, rows, None),
        compiled=flag(who, "compiled", compiled),
        finish=True,
        tokens=normalizer.tokens,
        scale=normalizer.scale,
    )
    with torch.no_grad():
        result = evaluate(call)
        value, metrics = result.finished or _finished(call, result)
    known = [(logprobs.theta, result.theta)]
    if entropy is not None and result.entropy is not None:
        known.append((entropy.values, result.entropy))
    return PolicyLoss(closed_form(who, value, *known, scale=normalizer.scale), metrics)


def _finished(call: Call, result: Result) -> Finished:
    terms = {name: result.sums.pop(name) for name in TERMS if name in result.sums}
    metrics = LossMetrics.of_sums(terms, result.sums, call.tokens)
    return Finished((metrics["loss"] * call.scale).to(call.dtype), metrics)


def _check_whole(rules: Rules, rows: Rows, normalizer: Normalizer) -> None:
    """Raises ValueError where a term that looks at several tokens sees only some of them."""
    if not rules.coupled:
        return
    if normalizer.context_parallel > 1:
        msg = (
            f"{rules.who}(): 'objective', 'kl' and 'correction' must look at one token at a time where the tokens of a "
            f"row are split (context_parallel={normalizer.context_parallel}); gather log-probabilities to whole rows"
        )
        raise ValueError(msg)
    totals = normalizer.totals(rules.who, rows) if rules.whole else None
    if totals is None:
        return
    here = rows.trained_of_rollout
    torn = np.flatnonzero((here < totals) & (here > 0))
    if len(torn):
        at = torn[0]
        msg = (
            f"{rules.who}(): 'rows' must hold whole rollouts, at which {type(rules.whole[0]).__name__} looks, but of "
            f"rollout {rows.rollouts.ids[at]!r} they have {int(here[at])} of {totals[at]} trained tokens"
        )
        raise ValueError(msg)
