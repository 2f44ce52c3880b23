"""Regressions of each response by itself: A*-PO and TBRM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import real
from rollmath.groups import Groups
from rollmath.loss._group_loss import GroupLoss, Scores, read

if TYPE_CHECKING:
    from numpy.typing import NDArray


def a_star_po(
    scores: ArrayLike,
    rewards: ArrayLike,
    values: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta2: float = 1e-3,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """A*-PO: ``F_g = sum_i (beta2 s_i + V - r_i)^2``, the log ratio regressed on the optimal advantage.

    ``V`` comes from samples of the reference: :func:`rollmath.group.soft_value`, with the temperature ``beta1``.

    Args:
        scores: log ratio to the reference, ``s = sum_t (log pi - log pi_ref)``, ``[n]``.
        rewards: one number a response, ``[n]``.
        values: ``V``, one a group (in the order of ``groups.ids``) or one a response.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``; any order and sizes.
        beta2: strength of the KL in the regression.
        divisor: of the sum. None: the number of valid responses, so that the loss is a mean over them, as in the
            official code.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``.

    Raises:
        ValueError: wrong lengths, arguments that are not finite, scores with grad, ``beta2`` or ``divisor`` not
            positive.
        TypeError: wrong dtype or rank.

    Source: Brantley et al. 2025, arXiv 2505.20686; official code executed beside ours. TRL calls the method A2PO.

    >>> out = a_star_po([3.0, -2.0], [1.0, 0.0], [0.25], ["p", "p"], beta2=0.1)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (0.1025, [-0.045, 0.005])
    """
    who = "a_star_po"
    strength = real(who, "beta2", beta2, above=0.0)
    s = read(who, scores, groups, valid)
    value, _ = s.column_or_group("values", values)
    return _squares(s, strength * s.x + value - s.column("rewards", rewards), strength, divisor)


def tbrm(
    scores: ArrayLike,
    first_lse: ArrayLike,
    rewards: ArrayLike,
    ref: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta: float,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """TBRM: ``F_g = sum_i (s_i + V_i - r_i / beta - log pi_ref,i)^2``, the Bellman residual of a whole trajectory.

    The logits are the Q-values, so ``V`` of the prompt is the log-sum-exp of the logits of the first token, and
    ``s + V`` is the paper's ``logit(first token) + sum of the later log pi``. ``V`` trains too and enters as ``s``
    does: ``coefficient`` is the derivative for both, and the trainer backpropagates ``(coefficient * (s + V)).sum()``.

    Args:
        scores: log-probability of the response, ``s = sum_t log pi``, ``[n]``.
        first_lse: ``V``, log-sum-exp of the (not normalised) logits at the first token, ``[n]``.
        rewards: outcome of each trajectory, ``[n]``.
        ref: log-probability of the response under the reference, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``; one response a prompt will do.
        beta: strength of the KL; no default, because the paper's value is unverified.
        divisor: of the sum. None: the number of valid responses.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``.

    Raises:
        ValueError: wrong lengths, arguments that are not finite, scores with grad, ``beta`` or ``divisor`` not
            positive.
        TypeError: wrong dtype or rank.

    Source: Yuan et al. 2025, arXiv 2505.15311; paper text.

    >>> out = tbrm([-1.9], [2.4], [1.0], [-2.1], ["p"], beta=0.5)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (0.36, [1.2])
    """
    who = "tbrm"
    strength = real(who, "beta", beta, above=0.0)
    s = read(who, scores, groups, valid)
    target = s.column("rewards", rewards) / strength + s.column("ref", ref)
    return _squares(s, s.x + s.column("first_lse", first_lse) - target, 1.0, divisor)


def _squares(s: Scores, residual: NDArray[np.float64], rate: float, divisor: float | None) -> GroupLoss:
    """Sum of squares, whose roots have the derivative ``rate``; ``residual`` is 0 where rows are not valid."""
    return s.result(s.sums(residual * residual), 2.0 * rate * residual, s.share(int(s.seen.sum()), divisor))
