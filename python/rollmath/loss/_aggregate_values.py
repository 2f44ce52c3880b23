"""The aggregation of any differentiable numbers a token."""

from __future__ import annotations

import torch

from rollmath._checks import real
from rollmath.loss._aggregate import Aggregation, as_aggregation
from rollmath.loss._check import require
from rollmath.loss._closed_form import closed_form, eager
from rollmath.loss._normalizer import Normalizer
from rollmath.loss._token_values import TokenTerm, arithmetic, read, weigh
from rollmath.rows import Rows


@eager
def aggregate(
    values: torch.Tensor,
    rows: Rows,
    *,
    normalizer: Normalizer,
    aggregation: str | Aggregation = "token_mean",
    coef: float = 1.0,
) -> torch.Tensor:
    r"""Weighted sum over the trained tokens, differentiable in the values: ``coef sum_t w_t x_t``.

    ``w_t`` is the weight that the aggregation gives to a token, say 1 / trained tokens of the step, as in
    :func:`policy_loss`; so this adds any loss a token to it: an exact KL (:func:`rollmath.vocab.kl`), a supervised
    loss, an auxiliary one. Losses of micro-batches and ranks add up to that of the step.

    Args:
        values: float tensor, packed ``[positions]``, jagged, or padded ``[n_rows, T]`` with position ``t`` of row ``i``
            in column ``t``.
        rows: which tokens these are, and which of them are trained.
        normalizer: counts of the *whole* optimiser step, and what the trainer does to the gradient;
            ``Normalizer.local(rows)`` if these rows are all of it.
        aggregation: the name of an :class:`Aggregation`, or one.
        coef: a coefficient, of any sign.

    Returns:
        What to call ``backward()`` on, or to add to such a loss, 0-d: the sum times ``normalizer.scale``, float32 or,
        for float64 values, float64. The sum runs in float64.

    Edge cases:
        Values at gaps and in padding may be NaN or infinite; their gradient is exactly 0. No trained token here, or in
        the whole step: 0. A value of a trained token that is not finite makes the result so.

    Raises:
        ValueError: shapes or offsets that do not fit the rows, a normalizer of another batch, a coefficient that is not
            finite.
        TypeError: arguments of the wrong type.

    Source: the token mean over the whole batch: DAPO, arXiv 2503.14476; the others as :class:`Aggregation` has them.

    >>> from rollmath import Rows
    >>> from rollmath.loss import Normalizer
    >>> rows = Rows(["a", "b"], [2, 1], mask=[1, 0, 1])
    >>> x = torch.tensor([3.0, float("nan"), 1.0], requires_grad=True)
    >>> loss = aggregate(x, rows, normalizer=Normalizer.local(rows))
    >>> loss.backward()
    >>> loss.item(), x.grad
    (2.0, tensor([0.5000, 0.0000, 0.5000]))
    """
    who = "aggregate"
    require(who, "rows", rows, Rows, "Rows")
    x = read(who, values, rows)
    factor = real(who, "coef", coef)
    weights = as_aggregation(who, aggregation).weights(rows, normalizer, who=who)
    factor *= normalizer.scale
    made = weigh(x, rows, weights * factor, lambda x: TokenTerm(x, None))
    known = None if made.gradient is None else (x, made.gradient)
    return closed_form(who, made.loss.to(arithmetic(x)), known)
