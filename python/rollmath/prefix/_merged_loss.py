"""The policy loss over packed tokens, where all copies of a token have the same log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from rollmath._arrays import ArrayLike
from rollmath._logprobs import LogProbs
from rollmath.loss import Aggregation, Correction, LossMetrics, Normalizer, Objective, PolicyLoss, Staleness, Tokens
from rollmath.loss._aggregate import as_aggregation
from rollmath.loss._arithmetic import weighted_sum
from rollmath.loss._check import check_token_loss, require
from rollmath.loss._closed_form import closed_form, eager
from rollmath.loss._mismatch_compose import Corrections, as_correction
from rollmath.loss._places import PIECE
from rollmath.loss._spans import Spans
from rollmath.loss._values import Values
from rollmath.prefix._batch import PrefixBatch
from rollmath.prefix._merged_weights import indices, merged_weights
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@eager
def merged_loss(
    logprobs: LogProbs,
    advantages: ArrayLike,
    batch: PrefixBatch,
    rows: Rows,
    objective: Objective,
    *,
    normalizer: Normalizer,
    aggregation: str | Aggregation = "token_mean",
    level: Literal["rollout", "row", "turn", "token"] | None = None,
    correction: Correction | Sequence[Correction] | None = None,
    kl: Objective | None = None,
) -> PolicyLoss:
    r"""Policy loss of each packed token once: ``sum_t W+_t L(rho_t, 1) + W-_t L(rho_t, -1) + W_t KL_t``.

    Over the rollouts ``l`` in which token ``t`` is trained, with ``a_l`` the weight that the aggregation gives to a
    token of ``l``: ``W+_t = sum_l a_l max(A_l, 0)``, ``W-_t = sum_l a_l max(-A_l, 0)``, ``W_t = sum_l a_l``. It equals
    :func:`~rollmath.loss.policy_loss` of what :meth:`PrefixBatch.gather` gives, and its gradient, for an objective
    that is proportional to the size of the advantage, ``L(rho, c A) = c L(rho, A)`` for ``c > 0``. One sum of the
    advantages would not: clips look at their signs.

    Args:
        logprobs: one number a target, ``[n_targets]`` each: theta from :func:`~rollmath.vocab.logprobs` of
            :meth:`PrefixBatch.shift`, the others the same for all copies of a token (:meth:`PrefixBatch.merge` checks).
        advantages: as for ``policy_loss``, of the rows. Numbers on another device are copied to the host once.
        batch: a :class:`PrefixBatch`.
        rows: one row a rollout of the batch, with its offsets: ``rows.take(batch.rollouts)`` of the rows of the step.
            Copies of a token may be trained in one row and a gap in another.
        objective: one with ``homogeneous = True`` that looks at one token at a time.
        normalizer: counts of the whole step; see ``policy_loss``.
        aggregation: as for ``policy_loss``; those over rows and rollouts give their tokens unequal weights, which is
            fine here.
        level: as for ``policy_loss``.
        correction: a :class:`~rollmath.loss.Correction` or a tuple of them, that look at one token at a time, at no
            more of the advantage than its sign, and not at versions, which copies of a token do not share.
        kl: a :class:`~rollmath.loss.KL` term, added.

    Returns:
        A :class:`~rollmath.loss.PolicyLoss`, of whose metrics the terms of the loss are there.

    Edge cases:
        Log-probabilities of tokens that no rollout trains may be NaN, and their gradient is exactly 0.

    Raises:
        ValueError: an objective, correction or KL term for which this is not exact; rows that are not those of the
            batch; a trained token that nothing predicts; shapes that do not fit.
        TypeError: arguments of the wrong type.

    Source: derived here; the two sums are needed because a clip is not linear in the advantage. Tree Training, arXiv
    2511.00413, merges by the fraction of rollouts, which is exact for losses that are linear in it (abstract and
    secondary description).

    >>> from rollmath import Forest
    >>> from rollmath.loss import PPO
    >>> from rollmath.prefix import pack
    >>> batch = pack(Forest.from_sequences([9, 1, 9, 1, 9, 1], [0, 2, 4, 6], groups=["a"] * 3, prompt_lengths=[1] * 3))
    >>> rows = Rows(batch.rollouts, batch.lengths)
    >>> theta = torch.tensor([-1.0], requires_grad=True)
    >>> prox = theta.detach() - torch.tensor([1.5]).log()
    >>> norm = Normalizer.local(rows)
    >>> out = merged_loss(LogProbs(theta, prox), [1.0, 1.0, -1.0], batch, rows, PPO(), normalizer=norm)
    >>> round(out.loss.item(), 6)  # (-1.2 - 1.2 + 1.5) / 3
    -0.3
    """
    who = "merged_loss"
    _check(who, logprobs, batch, rows, objective, kl)
    corrected = _corrections(who, correction)
    weights = as_aggregation(who, aggregation).weights(rows, normalizer, who=who)
    merged = merged_weights(
        who, batch, rows, weights, Values(who, "advantages", advantages, rows, level), total=kl is not None
    )

    with torch.no_grad():
        theta = logprobs.theta.detach()
        dtype = torch.float64 if theta.dtype == torch.float64 else torch.float32
        gradient = torch.zeros(batch.n_targets, dtype=dtype, device=theta.device)
        terms = {"policy_loss": gradient.new_zeros((), dtype=torch.float64)}
        if kl is not None:
            terms["kl_loss"] = torch.zeros_like(terms["policy_loss"])

        def add(name: str, at: slice | NDArray[np.int64], signs: NDArray[Any] | float, weight: NDArray[Any]) -> None:
            where = at if isinstance(at, slice) else torch.from_numpy(at).to(theta.device)
            given = {key: x.detach()[where].to(dtype) for key, x in logprobs.given().items()}
            top = given.pop("theta")
            a = torch.from_numpy(np.broadcast_to(signs, weight.shape).astype(np.float32)).to(theta.device, dtype)
            # A weight of 0 takes a token out, even if its loss is infinite.
            tokens = Tokens(top, a, 1.0, Spans.none(top.device), **given)
            tokens = tokens.reweighted(torch.from_numpy(weight).to(theta.device, dtype))
            term = objective
            if kl is not None and name == "kl_loss":
                term = kl
            elif corrected is not None:
                tokens = tokens.reweighted(corrected.weigh(tokens)[0])
            out = check_token_loss(who, term.token_loss(tokens), top, name="kl" if term is kl else "objective")
            if isinstance(where, slice):
                gradient[where] += out.gradient
            else:
                gradient.index_add_(0, where, out.gradient)
            terms[name] += weighted_sum(tokens, out.loss)

        # Pieces whose temporaries stay in the cache, as policy_loss has them.
        size = PIECE if theta.device.type == "cpu" else max(batch.n_targets, 1)
        for start in range(0, batch.n_targets, size):
            live, positive, negative, total = merged.piece(start, min(start + size, batch.n_targets))
            up, down = positive != 0, negative != 0
            # Most tokens have advantages of one sign; the others come again for the second one.
            add("policy_loss", live, np.where(down & ~up, -1.0, 1.0), np.where(up, positive, negative))
            if (both := np.flatnonzero(up & down)).size:
                add("policy_loss", indices(live)[both], -1.0, negative[both])
            if total is not None:
                add("kl_loss", live, 0.0, total)
        metrics = LossMetrics.of_sums(terms, {}, normalizer.tokens)
        value = (metrics["loss"] * normalizer.scale).to(dtype)
    return PolicyLoss(closed_form(who, value, (logprobs.theta, gradient), scale=normalizer.scale), metrics)


_GATHER = "take policy_loss of PrefixBatch.gather, which is exact for all"


def _check(
    who: str, logprobs: LogProbs, batch: PrefixBatch, rows: Rows, objective: Objective, kl: Objective | None
) -> None:
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., prox=...)")
    require(who, "batch", batch, PrefixBatch, "a PrefixBatch (see rollmath.prefix.pack)")
    require(who, "rows", rows, Rows, "Rows")
    require(who, "objective", objective, Objective, "an Objective, such as PPO()")
    _check_exact(who, objective, kl)
    if not np.array_equal(rows.offsets, batch.offsets):
        msg = f"{who}(): 'rows' must have the offsets of the batch, one row a rollout; take rows.take(batch.rollouts)"
        raise ValueError(msg)
    if logprobs.shape != (batch.n_targets,):
        msg = f"{who}(): 'logprobs' must have shape ({batch.n_targets},) (= n_targets), got {logprobs.shape}"
        raise ValueError(msg)


def _check_exact(who: str, objective: Objective, kl: Objective | None) -> None:
    name = type(objective).__name__
    if objective.coupling != "separable":
        msg = f"{who}(): 'objective' must look at one token at a time, but {name} is {objective.coupling}-coupled"
        raise ValueError(f"{msg}; {_GATHER}")
    if not objective.homogeneous:
        msg = f"{who}(): 'objective' must be proportional to the size of the advantage (homogeneous), but {name} is not"
        raise ValueError(f"{msg}; {_GATHER}")
    if kl is not None:
        require(who, "kl", kl, Objective, "a KL term, such as KL(0.01)")
        if kl.coupling != "separable":
            raise ValueError(f"{who}(): 'kl' must look at one token at a time; {_GATHER}")


def _corrections(who: str, correction: Correction | Sequence[Correction] | None) -> Corrections | None:
    if correction is None:
        return None
    corrected = as_correction(who, correction)
    if corrected.coupled:
        raise ValueError(f"{who}(): 'correction' must look at one token at a time; {_GATHER}")
    if any(isinstance(part, Staleness) for part in corrected.parts):
        raise ValueError(f"{who}(): 'correction' must not look at versions, which differ between copies; {_GATHER}")
    return corrected
