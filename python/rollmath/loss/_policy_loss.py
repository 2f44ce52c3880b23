"""The policy loss of rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch

from rollmath._arrays import ArrayLike
from rollmath._logprobs import LogProbs
from rollmath.loss._aggregate import token_weight
from rollmath.loss._check import check_token_loss, require
from rollmath.loss._normalizer import Normalizer
from rollmath.loss._objectives import Objective
from rollmath.loss._tokens import closed_form, trained_advantages, trained_index
from rollmath.rows import Rows


class PolicyLoss(NamedTuple):
    """0-d tensors on the device of the log-probabilities; only ``loss`` carries a gradient.

    Sums are over the trained tokens of the call, divided by the tokens of the *normalizer*: like the loss, every value
    but ``ratio_max`` adds up over micro-batches. With nothing trained all are 0.

    Attributes:
        loss: what to minimise.
        clip_fraction: tokens whose gradient the clip took away.
        dual_clip_fraction: tokens whose gradient the dual clip took away.
        approx_kl: ``rho - 1 - log rho``, an estimate of KL(prox || theta) that is never negative (k3).
        ratio_mean: ``rho``.
        ratio_max: largest ``rho``; take the maximum over micro-batches.
    """

    loss: torch.Tensor
    clip_fraction: torch.Tensor
    dual_clip_fraction: torch.Tensor
    approx_kl: torch.Tensor
    ratio_mean: torch.Tensor
    ratio_max: torch.Tensor


def policy_loss(
    logprobs: LogProbs,
    advantages: ArrayLike,
    rows: Rows,
    objective: Objective,
    *,
    normalizer: Normalizer,
    aggregation: Literal["token_mean"] = "token_mean",
    level: Literal["rollout", "row", "token"] | None = None,
) -> PolicyLoss:
    r"""Policy loss of the trained tokens, differentiable in theta: ``sum_t L(theta_t, prox_t, A_t) / tokens``.

    The gradient is the closed form of the objective. Only trained positions are read: log-probabilities of gaps and of
    padding may be NaN or infinite, and their gradient is exactly 0. Nothing is read back from
    the device.

    Args:
        logprobs: :class:`~rollmath.LogProbs`, packed ``[positions]`` or padded ``[n_rows, T]`` with position ``t`` of
            row ``i`` in column ``t``. ``theta`` and ``prox`` are read; ``behaviour`` and ``ref`` are not.
        advantages: constants, NumPy or torch: one a rollout ``[n_rollouts]`` in the order of ``rows.rollouts.ids``,
            one a row ``[n_rows]``, or one a position: packed, padded, or a :class:`~rollmath.Ragged`.
        rows: which tokens these are, and which of them are trained.
        objective: :class:`PPO`, or any object with its method ``token_loss``.
        normalizer: counts of the *whole* optimiser step, all micro-batches and ranks; ``Normalizer.local(rows)`` if
            these rows are all of it.
        aggregation: ``"token_mean"``, the mean over all trained tokens of the step.
        level: what ``advantages`` has one value of, where its length fits several.

    Returns:
        A :class:`PolicyLoss`; float32, or float64 if theta is float64. Sums run in float64.

    Edge cases:
        No trained token here, or in the whole step: loss 0 and gradient 0, never NaN. A NaN or infinite log-probability
        at a trained position makes the loss NaN or infinite. Advantages at gaps are not read, those of trained tokens
        must be finite, and so in the dtype of the loss; on another device than the CPU they are not checked.

    Raises:
        ValueError: shapes that do not fit the rows, advantages that require grad or could be of two levels, a
            normalizer that counts fewer tokens than the rows have.
        TypeError: arguments of the wrong type.

    Source: PPO, arXiv 1707.06347; the mean over all tokens of the batch: DAPO, arXiv 2503.14476.

    >>> from rollmath import LogProbs, Rows
    >>> from rollmath.loss import PPO
    >>> rows = Rows(["a", "b"], [2, 1])
    >>> theta = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    >>> out = policy_loss(LogProbs(theta), [1.0, -1.0], rows, PPO(), normalizer=Normalizer.local(rows))
    >>> out.loss.backward()
    >>> round(out.loss.item(), 4), theta.grad
    (-0.3333, tensor([-0.3333, -0.3333,  0.3333]))
    """
    who = "policy_loss"
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=..., prox=...)")
    require(who, "rows", rows, Rows, "Rows")
    require(who, "objective", objective, Objective, "an object with a method token_loss, such as PPO()")
    weight = token_weight(who, aggregation, rows, normalizer)
    theta = logprobs.theta
    index = torch.from_numpy(trained_index(who, rows, logprobs.shape, "logprobs")).to(theta.device, non_blocking=True)
    dtype = torch.float64 if theta.dtype == torch.float64 else torch.float32
    with torch.no_grad():
        here, prox = (x.detach().reshape(-1)[index].to(dtype) for x in (theta, logprobs.proximal))
        a = trained_advantages(who, advantages, rows, level, here)
        tokens = check_token_loss(who, objective.token_loss(here, prox, a), here)

        def mean(x: torch.Tensor) -> torch.Tensor:
            return (x.sum(dtype=torch.float64) * weight).to(dtype)

        kl = torch.expm1(tokens.log_ratio) - tokens.log_ratio
        largest = tokens.ratio.amax() if len(index) else tokens.ratio.new_zeros(())
        value = mean(tokens.loss)
    return PolicyLoss(
        loss=closed_form(theta, value, tokens.coefficient * weight, index),
        clip_fraction=mean(tokens.clipped),
        dual_clip_fraction=mean(tokens.dual_clipped),
        approx_kl=mean(kl),
        ratio_mean=mean(tokens.ratio),
        ratio_max=largest,
    )
