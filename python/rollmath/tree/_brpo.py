"""BRPO: chains of thought that must answer at every budget, each part against its own past and its group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, choice, describe, floats, host, integers
from rollmath._checks import flag, real
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, segment_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def brpo(
    scores: ArrayLike,
    budget_probabilities: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    baseline: Literal["both", "past", "group", "none"] = "both",
    discount: float = 2.0,
) -> Array:
    """Budget relative policy optimisation: ``A_s = R_s - (s V1_s + (S - s) V2_s) / S`` for the thinking up to budget s.

    The thinking is cut at ``S`` budgets, ``s = 0 .. S - 1``, and summaries are sampled at each.
    ``R_s = sum_{j>=s} P_j c_j`` is what a chain of thought earns from budget ``s`` on, ``P_j`` the probability that
    thinking stops at budget ``j``, ``c_j`` the mean score of the summaries there. Baselines:

    - ``V1_s = sum_{j<s} d^j c_j / sum_{j<s} d^j * sum_{j>=s} P_j``: its own past, recent budgets first; 0 at ``s = 0``
    - ``V2_s``: mean of ``R_s`` over its group, its own among them; 0 in a group of one

    Args:
        scores: ``c``, one number a chain of thought and budget, ``[N, S]``; or those of ``A`` summaries each,
            ``[N, S, A]``, whose mean is taken.
        budget_probabilities: ``P``, ``[S]``, not negative; divided by their sum.
        groups: a :class:`~rollmath.Groups` or one id a chain of thought, ``[N]``.
        baseline: ``"both"`` as above; ``"past"`` ``V1_s`` alone; ``"group"`` ``V2_s`` alone; ``"none"``. (``brpo``,
            ``v1only``, ``v2only``, ``none`` in the official code.)
        discount: ``d``, positive; 2 in the official code.

    Returns:
        ``[N, S]`` in the kind and float type of ``scores``. ``A_s`` goes to the thinking tokens after budget ``s - 1``
        up to budget ``s``: ``ops.expand_segments(advantages, ops.cut_by_length(2000, lengths=thinking), ...)`` for
        budgets of 2000, 4000, ... tokens. A chain of thought that ended in budget ``s`` has no tokens for later ones;
        its summaries there, sampled from the same finished text, still count in ``R``. The advantages do not telescope.

    Raises:
        ValueError: wrong lengths; scores that are not finite; probabilities that are negative, not finite or all 0;
            ``discount`` not positive.
        TypeError: wrong dtype or rank.

    Source: BRPO (AnytimeReasoner), arXiv 2505.13438. The official code, sail-sg/AnytimeReasoner
    (``compute_cot_advantage``), was executed on random scores and agrees.

    >>> brpo([[0.0, 0.5], [0.0, 1.0]], [0.5, 0.5], ["q", "q"]).tolist()
    [[-0.125, 0.0625], [0.125, 0.3125]]
    """
    who = "brpo"
    choice(who, "baseline", baseline, ("both", "past", "group", "none"))
    d = real(who, "discount", discount, above=0.0)
    x, dtype, kind = _scores(who, scores, (2, 3))
    count, budgets, summaries = x.shape
    made = as_groups(who, groups, length=count)
    p = _probabilities(who, budget_probabilities, budgets)
    c = segment_mean(x.reshape(-1), Groups.from_sizes(np.full(count * budgets, summaries))).reshape(count, budgets)

    left = np.cumsum(p[::-1])[::-1]
    returns = np.cumsum((p * c)[:, ::-1], axis=1)[:, ::-1]
    advantage = returns.copy()
    past, weight = np.zeros(count), 0.0
    for s in range(budgets):
        if s:
            # The running mean with weights d^j; in terms of the newest one, so that no power overflows.
            weight = 1.0 + weight / d
            past += (c[:, s - 1] - past) / weight
        if baseline in ("both", "group"):
            v2 = gather(segment_mean(returns[:, s], made), made)
            v2 = np.where(made.counts[made.index] > 1, v2, 0.0)
            advantage[:, s] -= v2 * ((budgets - s) / budgets if baseline == "both" else 1.0)
        if baseline in ("both", "past"):
            advantage[:, s] -= past * left[s] * (s / budgets if baseline == "both" else 1.0)
    return kind.wrap(advantage.astype(dtype, copy=False))


def brpo_summary(
    scores: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    finished: ArrayLike | None = None,
    last_only: bool = False,
) -> Array:
    """Advantages of summaries: ``A_{s,a} = r_{s,a} - mean_a(r_{s,a})``, the mean of the summaries of the same thinking.

    Args:
        scores: ``r``, one number a chain of thought, budget and summary, ``[N, S, A]``. With ``A = 1`` the mean is that
            of the group at the budget, its own score among them.
        groups: a :class:`~rollmath.Groups` or one id a chain of thought, ``[N]``; they matter where ``A = 1``.
        finished: number of the budget in which each chain of thought ended, ints ``[N]``, 0 to ``S - 1``: its summaries
            at that budget and at all later ones were sampled from the same text and are one pool (not where ``A = 1``).
            Default: none ended before the last budget.
        last_only: train on the very last summary of each chain of thought, the others get 0 (``grpo`` in the official
            code).

    Returns:
        ``[N, S, A]`` in the kind and float type of ``scores``; not divided by a standard deviation. Equal scores of a
        pool give exactly 0.

    Raises:
        ValueError: wrong lengths; scores that are not finite; ``finished`` out of range.
        TypeError: wrong dtype or rank.

    Source: BRPO (AnytimeReasoner), arXiv 2505.13438, official code executed (``compute_summary_advantage``).

    >>> brpo_summary([[[1.0, 0.0], [1.0, 1.0]]], ["q"]).tolist()
    [[[0.5, -0.5], [0.0, 0.0]]]
    >>> brpo_summary([[[1.0, 0.0], [1.0, 1.0]]], ["q"], finished=[0]).tolist()
    [[[0.25, -0.75], [0.25, 0.25]]]
    """
    who = "brpo_summary"
    only = flag(who, "last_only", last_only)
    x, dtype, kind = _scores(who, scores, (3,))
    count, budgets, summaries = x.shape
    made = as_groups(who, groups, length=count)
    owner, budget = np.arange(count), np.arange(budgets)[None, :]
    if finished is not None:
        ended, _ = integers(who, "finished", finished, length=count, why="len(scores)")
        if (bad := (ended < 0) | (ended >= budgets)).any():
            i = int(bad.argmax())
            msg = f"{who}(): 'finished' must be between 0 and {budgets - 1} (= S - 1), got {ended[i]} at index {i}"
            raise ValueError(msg)
        budget = np.minimum(budget, ended[:, None]) if summaries > 1 else budget
    if summaries == 1:
        owner = made.index
    pools = Groups(np.repeat((owner[:, None] * budgets + budget).reshape(-1), summaries))
    flat = x.reshape(-1)
    advantage = (flat - gather(segment_mean(flat, pools), pools)).reshape(x.shape)
    if only:
        keep = advantage[:, -1, -1].copy()
        advantage[:] = 0.0
        advantage[:, -1, -1] = keep
    return kind.wrap(advantage.astype(dtype, copy=False))


def _scores(who: str, scores: ArrayLike, ranks: tuple[int, ...]) -> tuple[NDArray[np.float64], np.dtype[Any], Kind]:
    """Finite scores as float64 ``[N, S, A]``; the float type and kind that came."""
    if not hasattr(scores, "shape"):
        scores, _ = host(who, "scores", scores)
    shape = tuple(int(n) for n in scores.shape)
    if len(shape) not in ranks:
        forms = "[N, S] or [N, S, A]" if 2 in ranks else "[N, S, A]"
        msg = f"{who}(): 'scores' must be {forms}, chains of thought by budgets, got {describe(scores)}"
        raise TypeError(msg)
    if len(shape) == 2:
        shape = (*shape, 1)
    if not shape[1] or not shape[2]:
        msg = f"{who}(): 'scores' must have a budget and a summary at least, got shape {tuple(scores.shape)}"
        raise ValueError(msg)
    x, kind = floats(who, "scores", scores.reshape(-1))
    if not (finite := np.isfinite(x)).all():
        i = int(np.argmin(finite))
        at = tuple(int(k) for k in np.unravel_index(i, tuple(scores.shape)))
        msg = f"{who}(): 'scores' must be finite, got {x[i]} at index {at}"
        raise ValueError(msg)
    return x.astype(np.float64, copy=False).reshape(shape), x.dtype, kind


def _probabilities(who: str, given: ArrayLike, budgets: int) -> NDArray[np.float64]:
    name = "budget_probabilities"
    p = floats(who, name, given, length=budgets, why="the budgets of scores")[0].astype(np.float64)
    if not (fine := np.isfinite(p) & (p >= 0)).all():
        i = int(np.argmin(fine))
        msg = f"{who}(): {name!r} must be finite and not negative, got {p[i]} at index {i}"
        raise ValueError(msg)
    if not p.any():
        msg = f"{who}(): {name!r} must not all be 0"
        raise ValueError(msg)
    return np.asarray(p / p.sum())
