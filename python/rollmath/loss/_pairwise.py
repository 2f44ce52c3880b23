"""Regressions on differences within a group, which are variances of a residual: REBEL, CoPG, GVPO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import ArrayLike, check_ddof, choice
from rollmath._checks import real
from rollmath.groups import Groups
from rollmath.loss._group_loss import GroupLoss, Scores, read
from rollmath.ops import gather, segment_mean, segment_var

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rebel(
    scores: ArrayLike,
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    eta: float = 1.0,
    target: Literal["reward", "log_ratio"] = "reward",
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """REBEL: ``F_g = mean_{i < j} ((s_i - s_j) / eta - (r_i - r_j))^2`` over the pairs of a prompt.

    Args:
        scores: log ratio of the response, ``s = sum_t (log pi - log pi_old)``, ``[n]``.
        rewards: one number a response, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``. The method has two responses a prompt;
            more are taken in all pairs, in O(n).
        eta: step size.
        target: ``"reward"`` is the formula above; ``"log_ratio"`` is the official code's,
            ``(s_i - s_j - eta (r_i - r_j))^2``, which is larger by ``eta^2``.
        divisor: of the sum over groups. None: the groups with two valid rows or more; the others have no loss.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``. The coefficients of a group sum to 0.

    Raises:
        ValueError: wrong lengths, scores or rewards that are not finite, scores with grad, ``eta`` or ``divisor`` not
            positive.
        TypeError: wrong dtype or rank.

    Source: Gao et al. 2024, arXiv 2404.16767; official code read (two responses). The form with rewards for a target
    and the mean over more pairs than one are from a secondary description, unverified.

    >>> out = rebel([0.3, 0.0], [1.0, 0.0], ["p", "p"])
    >>> round(float(out.loss), 9), out.coefficient.round(9).tolist()
    (0.49, [-1.4, 1.4])
    """
    who = "rebel"
    step = real(who, "eta", eta, above=0.0)
    choice(who, "target", target, ("reward", "log_ratio"))
    s = read(who, scores, groups, valid)
    r = s.column("rewards", rewards)
    residual, rate = (s.x / step - r, 1.0 / step) if target == "reward" else (s.x - step * r, 1.0)
    return _variance(s, residual, rate, np.full(s.groups.n_groups, 2.0), divisor)


def copg(
    scores: ArrayLike,
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta: float,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """CoPG (contrastive policy gradient): ``F_g = sum_{i < j} (R_i - R_j)^2 / (k - 1)``, ``R_i = r_i - beta s_i``.

    The derivative is that of RLOO on the regularised reward, ``dF_g/ds_i = -2 beta (R_i - mean of the other R)``, for
    samples of any policy.

    Args:
        scores: log ratio to the reference, ``s = sum_t (log pi - log pi_ref)``, ``[n]``.
        rewards: one number a response, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``, k of them in a group.
        beta: strength of the KL to the reference.
        divisor: of the sum over groups. None: the groups with two valid rows or more; the others have no loss.
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``. The coefficients of a group sum to 0.

    Raises:
        ValueError: wrong lengths, scores or rewards that are not finite, scores with grad, ``beta`` or ``divisor`` not
            positive.
        TypeError: wrong dtype or rank.

    Source: Flet-Berliac et al. 2024, arXiv 2406.19185; the normalisation by ``k - 1`` is that of Command A, arXiv
    2504.00698. Secondary description, unverified. Not the competitive policy gradient of this name.

    >>> out = copg([0.2, -0.3, 0.0], [1.0, 0.0, 0.5], ["p"] * 3, beta=0.1)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (0.6769, [-0.143, 0.142, 0.001])
    """
    who = "copg"
    strength = real(who, "beta", beta, above=0.0)
    s = read(who, scores, groups, valid)
    regularised = s.column("rewards", rewards) - strength * s.x
    return _variance(s, regularised, -strength, s.n.astype(np.float64), divisor)


def gvpo(
    scores: ArrayLike,
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    beta: float = 0.1,
    ddof: Literal[0, 1] = 1,
    divisor: float | None = None,
    valid: ArrayLike | None = None,
) -> GroupLoss:
    """GVPO: ``F_g = 1 / (2 (k - ddof)) sum_i (beta (s_i - mean s) - (r_i - mean r))^2``, half a variance.

    It vanishes where the implicit reward ``beta s`` differs from the reward by a constant of the prompt.

    Args:
        scores: log ratio of the response to the policy that regularises, ``s = sum_t (log pi - log pi_old)``, ``[n]``.
        rewards: one number a response, ``[n]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a response, ``[n]``, k of them in a group.
        beta: strength of the KL.
        ddof: 1 for the unbiased variance, as in the official code; 0 divides by k.
        divisor: of the sum over groups. None: the groups with two valid rows or more; the others have no loss. (The
            official code adds up the groups of a micro-batch without dividing by their number.)
        valid: responses that take part (bool or int, nonzero = True).

    Returns:
        A :class:`GroupLoss`, in the kind and float type of ``scores``. The coefficients of a group sum to 0.

    Raises:
        ValueError: wrong lengths, scores or rewards that are not finite, scores with grad, ``beta`` or ``divisor`` not
            positive, another ``ddof``.
        TypeError: wrong dtype or rank.

    Source: Zhang et al. 2025, arXiv 2504.19599; official code executed beside ours.

    >>> out = gvpo([2.0, -1.0, 0.0], [1.0, 0.0, 1.0], ["p"] * 3)
    >>> round(float(out.loss), 6), out.coefficient.round(6).tolist()
    (0.111667, [-0.008333, 0.026667, -0.018333])
    """
    who = "gvpo"
    strength = real(who, "beta", beta, above=0.0)
    check_ddof(who, ddof, most=1)
    s = read(who, scores, groups, valid)
    residual = strength * s.x - s.column("rewards", rewards)
    scale = np.full(s.groups.n_groups, 0.5) if ddof else 0.5 * (s.n - 1) / np.maximum(s.n, 1)
    return _variance(s, residual, strength, scale, divisor)


def _variance(
    s: Scores, x: NDArray[np.float64], rate: float, scale: NDArray[np.float64], divisor: float | None
) -> GroupLoss:
    """``scale`` times the unbiased variance of ``x``, whose derivative with respect to the scores is ``rate``.

    A sum over pairs needs no pairs: ``sum_{i < j} (x_i - x_j)^2 = k sum_i (x_i - mean)^2``.
    """
    paired = s.n > 1
    variance = np.where(paired, segment_var(x, s.groups, valid=s.seen), 0.0)
    deviation = np.where(s.seen, x - gather(segment_mean(x, s.groups, valid=s.seen), s.groups), 0.0)
    pull = np.where(paired, 2.0 * rate * scale / np.maximum(s.n - 1, 1), 0.0)
    return s.result(scale * variance, gather(pull, s.groups) * deviation, s.share(int(paired.sum()), divisor))
