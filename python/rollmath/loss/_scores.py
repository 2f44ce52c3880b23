"""Scores of whole responses, for the losses that take one number a response."""

from __future__ import annotations

from typing import Any, Literal

import torch

from rollmath._arrays import choice
from rollmath._autograd import first_order_only
from rollmath._logprobs import LogProbs
from rollmath.loss._check import require
from rollmath.loss._closed_form import eager
from rollmath.loss._everything import Everything
from rollmath.loss._places import check_offsets, check_shape
from rollmath.rows import Rows


@eager
def sequence_scores(
    logprobs: LogProbs,
    rows: Rows,
    *,
    how: Literal["sum", "mean"] = "sum",
    against: Literal["prox", "behaviour", "ref"] | None = None,
    unit: Literal["rollout", "row"] = "rollout",
) -> torch.Tensor:
    """Score of each response, differentiable in theta: ``s_i = sum_t theta_t`` (or ``theta_t - other_t``), or mean.

    It is what :func:`real`, :func:`rebel` and their like take, detached, and what their coefficients multiply.

    Args:
        logprobs: :class:`~rollmath.LogProbs`, packed, jagged or padded.
        rows: which tokens these are; sums are over the trained ones.
        how: ``"sum"`` or ``"mean"`` over the trained tokens.
        against: the policy whose log-probabilities are subtracted first; None for none.
        unit: one score a rollout, over all its rows, in the order of ``rows.rollouts.ids``; or one a row.

    Returns:
        ``[n_rollouts]`` or ``[n_rows]``, float32, or float64 if theta is; summed in float64. The derivative of a token
        is 1, or 1 / trained tokens; 0 at gaps and padding, which may hold anything.

    Edge cases:
        A response without a trained token scores 0.

    Raises:
        ValueError: shapes that do not fit the rows, an unknown choice, a policy that ``logprobs`` lacks.
        TypeError: arguments of the wrong type.

    >>> rows = Rows(["a", "a", "b"], [2, 1, 2], mask=[1, 0, 1, 1, 1])
    >>> theta = torch.tensor([-1.0, float("nan"), -0.5, -0.25, -0.75], requires_grad=True)
    >>> s = sequence_scores(LogProbs(theta), rows, how="mean")
    >>> s.sum().backward()
    >>> s.tolist(), theta.grad
    ([-0.75, -0.5], tensor([0.5000, 0.0000, 0.5000, 0.5000, 0.5000]))
    """
    who = "sequence_scores"
    require(who, "logprobs", logprobs, LogProbs, "LogProbs(theta=...)")
    require(who, "rows", rows, Rows, "Rows")
    choice(who, "how", how, ("sum", "mean"))
    choice(who, "unit", unit, ("rollout", "row"))
    check_shape(who, "logprobs", rows, logprobs.shape)
    for name, offsets in logprobs.jagged.items():
        check_offsets(who, f"logprobs.{name}", rows, offsets)
    other = None
    if against is not None:
        choice(who, "against", against, ("prox", "behaviour", "ref"))
        other = getattr(logprobs, against)
        if other is None:
            msg = f"{who}(): 'logprobs' must have {against!r}, as against={against!r}"
            raise ValueError(msg)
    layout = Everything(rows, logprobs.shape, logprobs.theta.device)
    scores: torch.Tensor = _Scores.apply(logprobs.theta, other, layout, how, unit)
    return scores


class _Scores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        theta: torch.Tensor,
        other: torch.Tensor | None,
        layout: Everything,
        how: Literal["sum", "mean"],
        unit: Literal["rollout", "row"],
    ) -> torch.Tensor:
        ctx.layout, ctx.how, ctx.unit, ctx.shape, ctx.dtype = layout, how, unit, theta.shape, theta.dtype
        dtype = torch.float64 if theta.dtype == torch.float64 else torch.float32
        s = layout.column(theta, dtype)
        if other is not None:
            s = s - layout.column(other, dtype)
        return layout.spans.reduce(s, unit, how).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        first_order_only("sequence_scores()")
        g, spans = gradients[0], ctx.layout.spans
        if ctx.how == "mean":
            g = g / spans.sizes(ctx.unit).clamp(min=1).to(g.dtype)
        spread, mask = spans.spread(g, ctx.unit), ctx.layout.mask(g.dtype)
        if mask is not None:
            spread = torch.where(mask != 0, spread, 0)
        return spread.to(ctx.dtype).reshape(ctx.shape), None, None, None, None
