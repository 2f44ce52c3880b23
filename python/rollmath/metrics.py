"""Evaluation metrics of groups of samples, exact: no resampling, no seed.

Each takes one number a sample and the groups (prompts) they belong to, in any order and of any sizes, and returns an
:class:`Estimate`: the value of every group, their mean, and a confidence interval of the mean.

What a metric at ``k`` says about a prompt is the expectation over the choice of ``k`` of its ``n`` samples, without
replacement. That is an unbiased estimate of what ``k`` fresh samples would give. ``replacement=True`` draws with
replacement instead: the number that a bootstrap (verl's validation metrics) approaches with many resamples. It is
biased, because the same sample can be drawn twice, and the more so the closer ``k`` is to ``n``.

The interval is that of a mean over independent prompts: mean +- t sd / sqrt(G), with the sample standard deviation of
the ``G`` values of the groups and the quantile of Student's distribution with ``G - 1`` degrees of freedom
(``interval="normal"``: of the normal distribution). It covers the metric's mean over the population that the prompts
are drawn from, and so both the choice of prompts and the chance in their samples. It says nothing about a single
prompt, is not cut off at 0 or 1, has no width where all groups agree, and is NaN for fewer than two groups. It assumes
that the mean is close to normal, which that of few prompts of uneven difficulty is not: with success rates from
Beta(0.3, 1.2) and 8 samples each, an interval of 95 % covers the mean in 85 % of cases for 5 prompts, 92 % for 20 and
95 % for 100 (simulated).

``k`` is a whole number, or a sequence or array of them. ``short`` says what a group with fewer than ``k`` valid
samples does: ``"raise"``; ``"skip"``, it is left out and its value is NaN; ``"nan"``, the mean is NaN too. With
replacement a group is short only without any sample. All results are float64 NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath._arrays import ArrayLike, choice, floats, mask_bytes
from rollmath._metrics_estimate import Call, Estimate, Interval, Short
from rollmath._metrics_majority import plurality
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_count, segment_max, segment_mean, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "best_at_k", "maj_at_k", "pass_at_k", "worst_at_k"]


def pass_at_k(
    correct: ArrayLike,
    groups: Groups | ArrayLike,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    valid: ArrayLike | None = None,
    short: Short = "raise",
    replacement: bool = False,
    interval: Interval = "t",
    level: float = 0.95,
) -> Estimate:
    """Probability that one of ``k`` samples is correct: ``1 - C(n - c, k) / C(n, k)`` of ``n`` samples, ``c`` correct.

    With replacement it is ``1 - (1 - c / n)^k``. Both are sums of positive terms here, so that tiny and large numbers
    are as exact: a relative error below 1e-12 for ``n`` up to 100,000, and ``c / n`` for ``k`` = 1. A metric: not
    ``group.passk`` or ``group.passk_training``, which are advantages.

    Args:
        correct: one bool or 0/1 number a sample, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a sample.
        k: samples drawn, one number or several.
        valid: samples that count (bool or int, nonzero = True).
        short: what a group of fewer than ``k`` valid samples does: ``"raise"``, ``"skip"`` or ``"nan"``.
        replacement: draw with replacement.
        interval: ``"t"`` or ``"normal"``.
        level: coverage of the interval.

    Raises:
        ValueError: wrong lengths; numbers other than 0 and 1; a group that is too small; options out of range.
        TypeError: wrong dtype or rank; ``k`` that is no whole number.

    Source: Chen et al. 2021, arXiv 2107.03374.

    >>> e = pass_at_k([1, 0, 0, 0, 1, 1, 0, 0], ["a"] * 4 + ["b"] * 4, k=2)
    >>> round(e.value, 4), e.per_group.round(4).tolist()
    (0.6667, [0.5, 0.8333])
    """
    who = "pass_at_k"
    call = Call.make(who, k, short, replacement, interval, level)
    made, x, mask = _samples(who, "correct", correct, groups, valid)
    if (wrong := (x != 0) & (x != 1)).any():
        msg = f"{who}(): 'correct' must be 0 or 1 where samples are valid, got {x[wrong][0]}; pass scores > threshold"
        raise ValueError(msg)
    n = segment_count(made, valid=mask)
    c: NDArray[np.float64] = segment_sum(x, made, valid=mask)

    def per_group(draws: int) -> NDArray[np.float64]:
        return _with_replacement(n, c, draws) if replacement else _without_replacement(n, c, draws)

    return call.run(made, n, per_group)


def best_at_k(
    scores: ArrayLike,
    groups: Groups | ArrayLike,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    valid: ArrayLike | None = None,
    short: Short = "raise",
    replacement: bool = False,
    interval: Interval = "t",
    level: float = 0.95,
) -> Estimate:
    """Expected best score of ``k`` samples: ``sum_j x_(j) C(j - 1, k - 1) / C(n, k)``, scores in ascending order.

    With replacement the weight of the ``j``-th is ``(j / n)^k - ((j - 1) / n)^k``. Exactly the score where all are
    equal and the maximum for ``k = n``; :func:`pass_at_k` for 0/1 scores.

    Args:
        scores: one finite number a sample, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a sample.
        k: samples drawn, one number or several.
        valid: samples that count (bool or int, nonzero = True).
        short: what a group of fewer than ``k`` valid samples does: ``"raise"``, ``"skip"`` or ``"nan"``.
        replacement: draw with replacement.
        interval: ``"t"`` or ``"normal"``.
        level: coverage of the interval.

    Raises:
        ValueError: wrong lengths; scores that are not finite; a group that is too small; options out of range.
        TypeError: wrong dtype or rank; ``k`` that is no whole number.

    Source: order statistics; the case of 0/1 scores is Chen et al. 2021, arXiv 2107.03374.

    >>> best_at_k([0.0, 1.0, 2.0], ["a"] * 3, k=[1, 2, 3]).value.round(4).tolist()
    [1.0, 1.6667, 2.0]
    """
    call = Call.make("best_at_k", k, short, replacement, interval, level)
    return _extreme(call, 1.0, scores, groups, valid)


def worst_at_k(
    scores: ArrayLike,
    groups: Groups | ArrayLike,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    valid: ArrayLike | None = None,
    short: Short = "raise",
    replacement: bool = False,
    interval: Interval = "t",
    level: float = 0.95,
) -> Estimate:
    """Expected worst score of ``k`` samples: ``sum_j x_(j) C(n - j, k - 1) / C(n, k)``, scores in ascending order.

    The mirror image of :func:`best_at_k`, with the same arguments and errors. Of 0/1 scores it is the probability that
    all ``k`` samples are correct, ``C(c, k) / C(n, k)``, known as pass^k.

    >>> round(worst_at_k([0.0, 1.0, 2.0], ["a"] * 3, k=2).value, 4)
    0.3333
    """
    call = Call.make("worst_at_k", k, short, replacement, interval, level)
    return _extreme(call, -1.0, scores, groups, valid)


def maj_at_k(
    answers: Groups | ArrayLike,
    scores: ArrayLike,
    groups: Groups | ArrayLike,
    k: int | Sequence[int] | NDArray[np.integer[Any]],
    *,
    ties: Literal["split", "zero"] = "split",
    valid: ArrayLike | None = None,
    short: Short = "raise",
    replacement: bool = False,
    interval: Interval = "t",
    level: float = 0.95,
) -> Estimate:
    """Expected score of the most frequent answer of ``k`` samples: ``sum_a P(a wins) score(a)``.

    With 0/1 scores it is the probability that the vote is right. The score of an answer is the mean over the samples of
    its group that gave it, that is, of one of the winning samples drawn at random.

    Args:
        answers: one id a sample, ``[N]``: whatever :class:`~rollmath.Groups` takes. Equal ids are equal answers.
        scores: one finite number a sample, ``[N]``; bools or 0/1 for the share of right votes.
        groups: a :class:`~rollmath.Groups` or one id a sample.
        k: samples drawn, one number or several.
        ties: ``"split"`` draws among the answers that are equally frequent; ``"zero"`` gives a tied vote the score 0.
        valid: samples that count (bool or int, nonzero = True): leave out those without an answer, or give them one
            answer of their own each.
        short: what a group of fewer than ``k`` valid samples does: ``"raise"``, ``"skip"`` or ``"nan"``.
        replacement: draw with replacement.
        interval: ``"t"`` or ``"normal"``.
        level: coverage of the interval.

    Cost:
        For each count that wins, a dynamic program over the answers that have as many samples: at most ``n k^2`` steps
        a group, vectorised over groups of equal size. All terms are positive (for scores that are not negative), and
        the relative error is below 1e-12 for some hundred samples.

    Raises:
        ValueError: wrong lengths; scores that are not finite; a group that is too small; options out of range.
        TypeError: wrong dtype or rank; answers that are no ids; ``k`` that is no whole number.

    Source: the multivariate hypergeometric (with replacement: multinomial) distribution of the counts; our derivation.

    >>> maj_at_k(["x", "x", "y"], [1, 1, 0], ["a"] * 3, k=[1, 2, 3]).value.round(4).tolist()
    [0.6667, 0.6667, 1.0]
    """
    who = "maj_at_k"
    choice(who, "ties", ties, ("split", "zero"))
    call = Call.make(who, k, short, replacement, interval, level)
    made, x, mask = _samples(who, "scores", scores, groups, valid)
    cells = Groups.product(made, as_groups(who, answers, length=len(made), name="answers"))
    votes = segment_count(cells, valid=mask)
    worth = segment_mean(x, cells, valid=mask)
    n = segment_count(made, valid=mask)
    owner = made.index[cells.first]

    def per_group(draws: int) -> NDArray[np.float64]:
        return plurality(n, owner, votes, worth, draws, replacement=replacement, split=ties == "split")

    return call.run(made, n, per_group)


def _extreme(
    call: Call, sign: float, scores: ArrayLike, groups: Groups | ArrayLike, valid: ArrayLike | None
) -> Estimate:
    made, x, mask = _samples(call.who, "scores", scores, groups, valid)
    # Powers of two, so that differences of the largest numbers stay finite and no bit changes.
    unit = 4.0 if np.abs(x).max(initial=0.0) > 2.0**1000 else 1.0
    x = sign * x / unit
    n = segment_count(made, valid=mask)
    top: NDArray[np.float64] = segment_max(x, made, valid=mask)
    kept = np.arange(len(x)) if mask is None else np.flatnonzero(mask)
    group = made.index[kept]
    order = np.lexsort((x[kept], group))
    rank = np.empty(len(kept), dtype=np.int64)
    rank[order] = np.arange(len(kept)) - np.repeat(np.cumsum(n) - n, n)
    gap = top[group] - x[kept]
    sizes, which = np.unique(n, return_inverse=True)
    start = np.cumsum(sizes) - sizes

    def per_group(draws: int) -> NDArray[np.float64]:
        weights = np.concatenate([np.empty(0), *(_weights(int(size), draws, call.replacement) for size in sizes)])
        lost = np.zeros(len(x))
        # From the top down, so that equal scores give themselves.
        lost[kept] = weights[start[which[group]] + rank] * gap
        out: NDArray[np.float64] = sign * unit * (top - segment_sum(lost, made, valid=mask)) + 0.0
        return out

    return call.run(made, n, per_group)


def _weights(n: int, k: int, replacement: bool) -> NDArray[np.float64]:
    """Probability that the ``j``-th smallest of ``n`` is the largest of ``k``, for ``j`` = 1 .. n."""
    if replacement:
        j = np.arange(1, n + 1, dtype=np.float64)
        with np.errstate(divide="ignore"):
            below: NDArray[np.float64] = np.expm1(k * np.log1p(-1 / j))
        return (j / n) ** k * -below
    j = np.arange(n, 1, -1, dtype=np.float64)
    shrink = np.concatenate([[min(k / max(n, 1), 1.0)], np.maximum(j - k, 0.0) / (j - 1)])
    return np.cumprod(shrink)[::-1][:n]


def _without_replacement(n: NDArray[np.int64], c: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """1 - C(n - c, k) / C(n, k), as the chance of a first hit at step 0, 1, ...: C(n, k) is symmetric in c and k."""
    steps, each = np.minimum(c, k), np.maximum(c, k)
    q = np.zeros(len(n))
    i = 0
    while (going := (i < steps) & (q < 1)).any():
        chance = each[going] / (n[going] - i)
        q[going] = np.where(chance < 1, q[going] + (1 - q[going]) * chance, 1.0)
        i += 1
    return q


def _with_replacement(n: NDArray[np.int64], c: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    rate = c / np.maximum(n, 1)
    some = (rate > 0) & (rate < 1) if k > 1 else np.zeros(len(n), dtype=bool)
    return np.where(some, -np.expm1(k * np.log1p(-np.where(some, rate, 0.5))), rate)


def _samples(
    who: str, name: str, x: ArrayLike, groups: Groups | ArrayLike, valid: ArrayLike | None
) -> tuple[Groups, NDArray[np.float64], NDArray[np.uint8] | None]:
    """The groups, the numbers as float64 (0 where not valid) and the mask."""
    made = as_groups(who, groups)
    mask = mask_bytes(who, "valid", valid, length=len(made))
    values = floats(who, name, x, length=len(made))[0].astype(np.float64, copy=False)
    if mask is not None:
        values = np.where(mask != 0, values, 0.0)
    if not np.isfinite(values).all():
        msg = f"{who}(): {name!r} must be finite where samples are valid, got {values[~np.isfinite(values)][0]}"
        raise ValueError(msg)
    return made, values, mask
