"""PQM: the ranking of the step values of a process reward model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath._checks import flag, real
from rollmath.groups import Groups
from rollmath.loss._group_loss import GroupLoss, Scores, log_sum_exp, read

if TYPE_CHECKING:
    from numpy.typing import NDArray


def process_q(
    q_values: ArrayLike,
    correct: ArrayLike,
    responses: Groups | ArrayLike,
    *,
    zeta: float = 4.0,
    anchor: bool = True,
    step: ArrayLike | None = None,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """PQM (process Q-value model): a correct step above the earlier correct ones, and all of them above the wrong.

    ``F_g = mean_t -log(e^(Q_t) / (1 + sum_{c <= t} e^(Q_c) + sum_w e^(Q_w + zeta)))`` over the correct steps ``t`` of a
    response; ``c`` are its correct steps, ``w`` its wrong ones, and the 1 is the state before the first step, of value
    0. Where a step is wrong, that state is an item of the mean itself: ``-log(1 / (1 + sum_w e^(Q_w + zeta)))``.

    Args:
        q_values: value of each step, ``[n]``, one row a step.
        correct: label of each step (bool or int, nonzero = True), ``[n]``.
        responses: a :class:`~rollmath.Groups` or the response id of each step, ``[n]``. Without ``step=``, the rows of
            a response are in the order of its steps.
        zeta: margin between correct and wrong steps.
        anchor: whether the state before the first step is an item, as in the official code.
        step: position of each step in its response, ``[n]``, if the rows come in another order.
        divisor: of the sum over responses. None: the responses with a valid step.
        valid: steps that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss` whose groups are the responses, in the kind and float type of ``q_values``. A response with
        neither a correct step nor the anchor has no loss. The official code adds 1e-5 inside the logarithm, and
        overflows in float32 for values over 88.

    Raises:
        ValueError: wrong lengths, values that are not finite or require grad, two steps of a response at one position,
            ``divisor`` not positive.
        TypeError: wrong dtype or rank.

    Source: Li and Li 2024, arXiv 2410.11287; official code executed beside ours.

    >>> out = process_q([1.0, 2.0, -3.0], [1, 1, 0], ["a", "a", "a"])
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (0.933927, [-0.127023, -0.155184, 0.449996])
    """
    who = "process_q"
    margin = real(who, "zeta", zeta)
    first_is_item = flag(who, "anchor", anchor)
    s = read(who, q_values, responses, valid, name="q_values", groups_name="responses")
    right, wrong = s.labels("correct", correct)
    index = s.groups.index
    # log(1 + sum of the wrong steps), which is in every denominator, and alone in that of the state before the first.
    base, base_share = log_sum_exp(s.x + margin, s.groups, wrong, anchor=True)
    item = (s.count(wrong) > 0) & first_is_item
    rows = _in_order(s, right, step)
    z, of = s.x[rows], index[rows]
    denominator = np.logaddexp(_running(z, of), base[of])
    cost = np.zeros(len(index))
    cost[rows] = denominator - z
    n = np.maximum(s.count(right) + item, 1)
    per_group = (s.sums(cost) + np.where(item, base, 0.0)) / n
    # A step is in the denominators of its item and of all later ones; a wrong step is in all of them.
    slope = np.zeros(len(index))
    slope[rows] = np.exp(z + _running(-denominator[::-1], of[::-1])[::-1]) - 1.0
    inverse = np.zeros(len(index))
    inverse[rows] = -denominator
    everywhere, _ = log_sum_exp(inverse, s.groups, right)
    everywhere = np.where(item, np.logaddexp(everywhere, -base), everywhere)
    slope[wrong] = base_share[wrong] * np.exp(base + everywhere)[index[wrong]]
    return s.result(per_group, slope / n[index], s.share(int((s.n > 0).sum()), divisor))


def _in_order(s: Scores, right: NDArray[np.bool_], step: ArrayLike | None) -> NDArray[np.int64]:
    """Rows of the correct steps, response by response, in the order of the steps."""
    place = np.arange(len(s.x)) if step is None else s.column("step", step)
    order = np.lexsort((place, s.groups.index))
    order = order[s.seen[order]]
    same = (np.diff(s.groups.index[order]) == 0) & (np.diff(place[order]) == 0)
    if len(twice := np.flatnonzero(same)):
        rows = sorted(order[twice[0] : twice[0] + 2].tolist())
        msg = f"{s.who}(): 'step' must differ within a response, but rows {rows[0]} and {rows[1]} have the same"
        raise ValueError(msg)
    return order[right[order]]


def _running(z: NDArray[np.float64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Log-sum-exp of each element and those before it in its run of equal ``of``, by doubling."""
    starts = np.flatnonzero(np.r_[True, of[1:] != of[:-1]]) if len(of) else np.zeros(0, dtype=np.int64)
    place = np.arange(len(of)) - np.repeat(starts, np.diff(np.r_[starts, len(of)]))
    out, reach = z.copy(), 1
    while len(late := np.flatnonzero(place >= reach)):
        out[late] = np.logaddexp(out[late], out[late - reach])
        reach *= 2
    return out
