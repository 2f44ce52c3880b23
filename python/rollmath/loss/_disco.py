"""DisCO and decoupled-reward DRPO: correct responses against wrong ones, and their trust region."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import column, finite, mask, rows
from rollmath._checks import real as real_number
from rollmath.groups import Groups
from rollmath.loss._group_loss import GroupLoss, Scores, log_sum_exp, read, refuse_grad
from rollmath.ops import gather, segment_logmeanexp, segment_max, segment_mean, segment_weighted_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

Unpaired = Literal["count", "skip"]

#: A temperature below this one has no finite inverse.
_COLDEST = 1e-300


def disco(
    scores: ArrayLike,
    correct: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    tau: float = 10.0,
    unpaired: Unpaired = "count",
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """DisCO: ``F_g = -(mean_{i in +} s_i - tau log mean_{j in -} e^(s_j / tau))``, correct against wrong responses.

    The trust region that the method adds is :func:`disco_constraint`.

    Args:
        scores: mean log-probability of the tokens ("logL", with ``tau=10`` in the official scripts), or their mean
            ratio ``mean_t exp(log pi - log pi_old)`` ("L-ratio", with ``tau=1``), ``[n]``.
        correct: bool or int, nonzero = True, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``; any order and sizes.
        tau: temperature; ``math.inf`` is the plain mean of the wrong responses (DisCO-b).
        unpaired: groups without a correct or without a wrong response have no loss. ``"count"`` (the official code)
            has them in the divisor, ``"skip"`` has not.
        divisor: of the sum over groups, instead of the number of groups by ``unpaired``.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``. The coefficients of a group sum to 0. The
        official code has the same gradient, but its loss shows another number: its term for the wrong responses is
        a ratio that is always 1.

    Raises:
        ValueError: wrong lengths, scores that are not finite or require grad, ``tau`` or ``divisor`` not positive.
        TypeError: wrong dtype or rank.

    Source: Li et al. 2025, arXiv 2505.12366; official code executed beside ours (gradient).

    >>> out = disco([-0.5, -0.8, -0.6, -1.2], [1, 1, 0, 0], ["p"] * 4)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (-0.245501, [-0.5, -0.5, 0.514996, 0.485004])
    """
    heat = _settings("disco", tau, unpaired)
    s = read("disco", scores, groups, valid)
    right, wrong = s.labels("correct", correct)
    weights = right / np.maximum(s.count(right), 1)[s.groups.index]
    return _contrast(s, right, wrong, weights, heat, unpaired, divisor)


def drpo(
    scores: ArrayLike,
    correct: ArrayLike,
    lengths: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    max_length: float,
    lam: float = 0.1,
    tau: float = 10.0,
    unpaired: Unpaired = "count",
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """DRPO (decoupled reward policy optimisation): :func:`disco` with the correct responses weighted by length.

    ``F_g = -(sum_{i in +} w_i s_i - tau log mean_{j in -} e^(s_j / tau))`` with
    ``w_i = e^((1 - L_i / L_max) / lam) / sum_{k in +} e^((1 - L_k / L_max) / lam)``. Weights are among the correct
    responses alone, so a long one counts less than a short one but never as wrong.

    Args:
        scores: mean log-probability of the tokens, ``[n]``.
        correct: bool or int, nonzero = True, ``[n]``.
        lengths: tokens of each response, ``[n]``, at most ``max_length``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``; any order and sizes.
        max_length: ``L_max``; the official code takes the width of the padded responses.
        lam: how little length matters; ``math.inf`` is :func:`disco`.
        tau: temperature, as in :func:`disco`.
        unpaired: as in :func:`disco`.
        divisor: as in :func:`disco`.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``.

    Raises:
        ValueError: wrong lengths, scores that are not finite or require grad, a length below 0 or over ``max_length``;
            ``max_length``, ``lam``, ``tau`` or ``divisor`` not positive.
        TypeError: wrong dtype or rank.

    Source: Li et al. 2025 (DRPO), arXiv 2510.04474; official code executed beside ours (gradient). Not DR-PO (dataset
    reset) nor the other methods of this name.

    >>> out = drpo([-0.5, -0.8, -0.6, -1.2], [1, 1, 0, 0], [25, 75, 50, 50], ["p"] * 4, max_length=100)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (-0.393493, [-0.993307, -0.006693, 0.514996, 0.485004])
    """
    who = "drpo"
    heat = _settings(who, tau, unpaired)
    longest = real_number(who, "max_length", max_length, above=0.0)
    spread = _positive(who, "lam", lam)
    s = read(who, scores, groups, valid)
    right, wrong = s.labels("correct", correct)
    length = s.column("lengths", lengths, must="finite and not negative")
    if len(bad := np.flatnonzero(length > longest)):
        msg = f"{who}(): 'lengths' must be at most {longest:g} (= max_length), got {length[bad[0]]:g} at index {bad[0]}"
        raise ValueError(msg)
    _, weights = log_sum_exp((1.0 - length / longest) / spread, s.groups, right)
    return _contrast(s, right, wrong, weights, heat, unpaired, divisor)


class TrustRegion(NamedTuple):
    """What :func:`disco_constraint` returns.

    Attributes:
        loss: the penalty, 0-d.
        coefficient: its derivative with respect to the KL estimate of each response, ``[n]``.
        kl: the KL estimate of the batch, 0-d.
    """

    loss: Array
    coefficient: Array
    kl: Array


def disco_constraint(
    kl: ArrayLike,
    lengths: ArrayLike,
    *,
    delta: float = 1e-4,
    beta: float = 1e3,
    form: Literal["squared", "product"] = "squared",
    valid: ArrayLike | None = None,
) -> TrustRegion:
    """Trust region of DisCO: ``F = (beta / 2) max(KL - delta, 0)^2``, ``KL = sum_i L_i kl_i / sum_i L_i``.

    ``KL`` is a mean over the tokens of the whole batch, so one call takes the whole batch; what follows is as in
    :class:`GroupLoss`, with the KL estimate of a response for its score.

    Args:
        kl: estimate of each response, ``mean_t (log pi_old - log pi)`` in the official scripts, ``[n]``; it may be
            negative.
        lengths: tokens of each response, ``[n]``, not negative.
        delta: radius of the region, which costs nothing.
        beta: strength of the penalty.
        form: ``"squared"``, or ``"product"`` for the number that the official code shows,
            ``beta max(KL - delta, 0) KL`` with the first factor held constant. The derivative is the same.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`TrustRegion`, in the kind and float type of ``kl``; zeros without valid rows.

    Raises:
        ValueError: wrong lengths, ``kl`` not finite or with grad, no tokens, a negative ``delta`` or ``beta``.
        TypeError: wrong dtype or rank.

    Source: Li et al. 2025 (DisCO), arXiv 2505.12366; official code executed beside ours.

    >>> out = disco_constraint([0.0003], [7])
    >>> float(out.loss.round(9)), out.coefficient.round(6).tolist()
    (2e-05, [0.2])
    >>> float(disco_constraint([0.0003], [7], form="product").loss.round(9))
    6e-05
    """
    who = "disco_constraint"
    choice(who, "form", form, ("squared", "product"))
    radius, strength = real_number(who, "delta", delta, 0.0), real_number(who, "beta", beta, 0.0)
    refuse_grad(who, "kl", kl)
    x, back = rows(who, "kl", kl)
    seen = mask(who, "valid", valid, len(x), "len(kl)")
    finite(who, "kl", x, seen)
    weight, _ = column(who, "lengths", lengths, seen, must="finite and not negative", why="len(kl)")
    total = float(np.sort(weight).sum())
    if seen.any() and not total:
        msg = f"{who}(): 'lengths' must not all be 0 where rows are valid"
        raise ValueError(msg)
    one = Groups(np.zeros(len(x), dtype=np.int64))
    mean = float(segment_weighted_mean(np.where(seen, x, 0.0), one, weight)[0]) if total else 0.0
    rate = strength * max(mean - radius, 0.0)
    loss = rate * mean if form == "product" else 0.5 * rate * max(mean - radius, 0.0)
    s = Scores(who, x, one, seen, back)
    return TrustRegion(*(s.narrow(v) for v in (np.asarray(loss), rate * weight / (total or 1.0), np.asarray(mean))))


def _settings(who: str, tau: object, unpaired: str) -> float:
    choice(who, "unpaired", unpaired, ("count", "skip"))
    return _positive(who, "tau", tau)


def _positive(who: str, name: str, value: object) -> float:
    """A positive option that may be infinite."""
    if isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a number, got {value}"
        raise TypeError(msg)
    x = number(who, name, value)
    if not x >= _COLDEST:
        msg = f"{who}(): {name!r} must be at least {_COLDEST:g} (math.inf is allowed), got {value}"
        raise ValueError(msg)
    return x


def _contrast(
    s: Scores,
    right: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    weights: NDArray[np.float64],
    tau: float,
    unpaired: Unpaired,
    divisor: float | None,
) -> GroupLoss:
    """The weighted mean of the correct scores against the soft maximum of the wrong ones."""
    n_wrong = s.count(wrong)
    paired = (s.count(right) > 0) & (n_wrong > 0)
    if math.isinf(tau):
        rival = np.asarray(segment_mean(s.x, s.groups, valid=wrong))
        share = wrong / np.maximum(n_wrong, 1)[s.groups.index]
    else:
        rival = np.asarray(segment_logmeanexp(s.x, s.groups, 1.0 / tau, valid=wrong))
        # From the largest, so that a small tau makes no infinity of it.
        with np.errstate(over="ignore"):
            z = (s.x - gather(segment_max(s.x, s.groups, valid=wrong), s.groups)) / tau
        _, share = log_sum_exp(z, s.groups, wrong)
    per_group = np.where(paired, rival - s.sums(weights * s.x), 0.0)
    slope = np.where(paired[s.groups.index], share - weights, 0.0)
    counted = paired if unpaired == "skip" else s.n > 0
    return s.result(per_group, slope, s.share(int(counted.sum()), divisor))
