"""The loss of a critic: squared or Huber error of values, clipped around the old ones."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple

import torch

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import real
from rollmath.loss._aggregate import Aggregation, as_aggregation
from rollmath.loss._check import require
from rollmath.loss._closed_form import closed_form, eager
from rollmath.loss._metrics import LossMetrics
from rollmath.loss._normalizer import Normalizer
from rollmath.loss._options import over
from rollmath.loss._token_values import TokenTerm, arithmetic, read, weigh
from rollmath.loss._tokens import above
from rollmath.loss._values import Values
from rollmath.rows import Rows


class ValueLoss(NamedTuple):
    """What :func:`value_loss` returns.

    Attributes:
        loss: what to call ``backward()`` on, 0-d: the loss times the ``scale`` of the normalizer.
        metrics: a :class:`LossMetrics`: ``value_loss`` (before that scale), and means over the trained tokens of the
            step: ``value_clip`` (share of tokens whose gradient the clip took), ``value``, ``return``,
            ``value_error`` (return - value), and the squares ``return_squared`` and ``value_error_squared``, of which
            :func:`explained_variance` is made.
    """

    loss: torch.Tensor
    metrics: LossMetrics


@eager
def value_loss(
    values: torch.Tensor,
    returns: ArrayLike,
    rows: Rows,
    *,
    normalizer: Normalizer,
    old_values: ArrayLike | None = None,
    clip: float | None = None,
    kind: Literal["squared", "huber"] = "squared",
    huber_delta: float = 10.0,
    aggregation: str | Aggregation = "token_mean",
    level: Literal["rollout", "row", "turn", "token"] | None = None,
) -> ValueLoss:
    r"""Loss of the values of a critic, differentiable in them: ``sum_t w_t max(l(v - R), l(v_clipped - R))``.

    ``l(e) = e^2 / 2``, or with ``kind="huber"`` ``delta (|e| - delta / 2)`` where ``|e| > delta``;
    ``v_clipped = clip(v, old - eps, old + eps)``, and without ``clip`` the loss is ``l(v - R)``. ``w_t`` is the weight
    that the aggregation gives to the token. The derivative is ``w_t l'(v - R)``, or 0 where the clipped value has the
    larger error: there the value has already moved by more than eps towards the return.

    Args:
        values: float tensor, packed ``[positions]``, jagged, or padded ``[n_rows, T]``; the value of the state before
            the token at that position.
        returns: constants, at any level that advantages may have (:func:`policy_loss`), NumPy or torch, such as those
            of :func:`rollmath.temporal.gae`.
        rows: which tokens these are, and which of them are trained.
        normalizer: counts of the *whole* optimiser step, and what the trainer does to the gradient.
        old_values: constants, one a position: the values when the rollouts were made; needed for ``clip``.
        clip: eps, positive, or None. verl's default is 0.5, TRL's and OpenRLHF's 0.2.
        kind: the error.
        huber_delta: where the Huber error turns from a parabola to a line; AReaL has 10.
        aggregation: the name of an :class:`Aggregation`, or one.
        level: what ``returns`` has one value of; needed for turns, and where its length fits several.

    Returns:
        A :class:`ValueLoss`; the loss float32, or float64 if the values are. Sums run in float64.

    Edge cases:
        Values and constants at gaps and in padding may be NaN or infinite; the gradient there is exactly 0. No trained
        token: 0. A value of a trained token that is not finite makes the loss so. Where both errors are the same and
        the value is outside the clip, the gradient is that of the unclipped one. Returns and old values of trained
        tokens must be finite; on another device than the CPU they are not checked.

    Raises:
        ValueError: shapes that do not fit the rows, ``clip`` without ``old_values`` or the reverse, constants that
            require grad or are not finite, an unknown choice, a number out of range, a normalizer of another batch.
        TypeError: arguments of the wrong type.

    Source: PPO's public implementations (clipped: Engstrom et al. 2020, arXiv 2005.12729); Huber: as AReaL has it.

    >>> from rollmath import Rows
    >>> from rollmath.loss import Normalizer
    >>> rows = Rows(["a"], [2])
    >>> v = torch.tensor([0.5, 2.0], requires_grad=True)
    >>> out = value_loss(v, [1.0, 3.0], rows, normalizer=Normalizer.local(rows), old_values=[0.5, 1.0], clip=0.5)
    >>> out.loss.backward()
    >>> out.loss.item(), v.grad, out.metrics["value_clip"].item()
    (0.625, tensor([-0.2500,  0.0000]), 0.5)
    """
    who = "value_loss"
    require(who, "rows", rows, Rows, "Rows")
    x = read(who, values, rows)
    choice(who, "kind", kind, ("squared", "huber"))
    eps, delta = over(who, "clip", clip, 0.0), real(who, "huber_delta", huber_delta, above=0.0)
    if (old_values is None) != (eps is None):
        msg = f"{who}(): 'old_values' and 'clip' go together; give both or neither"
        raise ValueError(msg)
    constants = [Values(who, "returns", returns, rows, level)]
    if old_values is not None:
        constants.append(Values(who, "old_values", old_values, rows, "token"))
    weights = as_aggregation(who, aggregation).weights(rows, normalizer, who=who)
    formula = partial(_error, eps=eps, delta=delta if kind == "huber" else math.inf)
    made = weigh(x, rows, weights, formula, constants)
    tokens = max(normalizer.tokens, 1)
    metrics = LossMetrics({"value_loss": made.loss} | {name: total / tokens for name, total in made.sums.items()})
    known = None if made.gradient is None else (x, made.gradient.mul_(normalizer.scale))
    return ValueLoss(closed_form(who, (made.loss * normalizer.scale).to(arithmetic(x)), known), metrics)


def _error(
    value: torch.Tensor, target: torch.Tensor, old: torch.Tensor | None = None, *, eps: float | None, delta: float
) -> TokenTerm:
    """Loss and derivative of each token; all 0 where everything is 0."""
    error = value - target
    slope, size = error.clamp(-delta, delta), error.abs()
    clipped = torch.zeros_like(error)
    if old is not None and eps is not None:
        # Not old + clip(value - old): inside the bounds that is not always the value itself, but a rounding away.
        bounded = (torch.minimum(torch.maximum(value, old - eps), old + eps) - target).abs()
        clipped, size = above(bounded, size), torch.maximum(bounded, size)
        slope = torch.addcmul(slope, clipped, slope, value=-1)
    # l(e) = c (|e| - c / 2) with c = min(|e|, delta): the parabola and the line in one.
    near = size.clamp(max=delta)
    loss = near * torch.add(size, near, alpha=-0.5)
    return TokenTerm(
        loss,
        slope,
        {
            "value_clip": clipped.sum(dtype=torch.float64),
            "value": value.sum(dtype=torch.float64),
            "return": target.sum(dtype=torch.float64),
            "value_error": -error.sum(dtype=torch.float64),
            "return_squared": _squares(target),
            "value_error_squared": _squares(error),
        },
    )


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Sum of squares, in float64 without a float64 copy."""
    norm: torch.Tensor = torch.linalg.vector_norm(x, dtype=torch.float64)
    return norm.square()


def explained_variance(metrics: LossMetrics) -> torch.Tensor:
    r"""Share of the variance of the returns that the values explain: ``1 - Var(R - v) / Var(R)``.

    Over the trained tokens of a step: 1 for perfect values, 0 for a constant, negative for worse than that.

    Args:
        metrics: those of :func:`value_loss` over the whole step, of its micro-batches and ranks together
            (:meth:`LossMetrics.merge`).

    Returns:
        0-d float64 tensor on the device of the metrics.

    Edge cases:
        NaN if the returns have no spread: a variance under 1e-12 of their mean square is rounding.

    Raises:
        ValueError: metrics without those of a value loss.
        TypeError: no LossMetrics.

    >>> from rollmath import Rows
    >>> from rollmath.loss import Normalizer, value_loss
    >>> rows = Rows(["a"], [3])
    >>> values, returns = torch.tensor([1.0, 2.0, 3.5]), [1.0, 2.0, 3.0]
    >>> out = value_loss(values, returns, rows, normalizer=Normalizer.local(rows))
    >>> round(explained_variance(out.metrics).item(), 4)
    0.9167
    """
    who = "explained_variance"
    require(who, "metrics", metrics, LossMetrics, "LossMetrics of value_loss")
    missing = {"return", "return_squared", "value_error", "value_error_squared"} - set(metrics)
    if missing:
        msg = f"{who}(): 'metrics' must be those of value_loss, got none named {sorted(missing)[0]!r}"
        raise ValueError(msg)
    left = metrics["value_error_squared"] - metrics["value_error"].square()
    square = metrics["return_squared"]
    spread = square - metrics["return"].square()
    return torch.where(spread > 1e-12 * square, 1 - left / spread, math.nan)
