"""HBPO: a reward that knows the token budget of the prompt, and its advantage of two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import column, correct_rows, real, whole_rows
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._inputs import read
from rollmath.groups import Groups
from rollmath.ops import segment_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


def hbpo_reward(
    rewards: ArrayLike,
    lengths: ArrayLike,
    budgets: ArrayLike,
    *,
    max_length: int,
    correct: ArrayLike | None = None,
    alpha: float = 1 / 4096,
    beta: float = 4.0,
    within: Literal["flat", "capped"] = "flat",
) -> Array:
    """Of a correct rollout: ``beta cos(pi b / (2 L))`` if ``n <= b``, else ``beta cos(pi n / (2 L)) - alpha (n - b)``.

    ``n`` is the length of the rollout, ``b`` the budget that its prompt named, ``L`` = ``max_length``. A wrong rollout
    and one longer than ``L`` get 0.

    Args:
        rewards: one number a rollout, ``[N]``; only which are correct matters.
        lengths: tokens of each rollout, whole numbers ``[N]``.
        budgets: tokens that the prompt of each rollout allows, whole numbers ``[N]``, from 1 to ``max_length``.
        max_length: ``L``; 4096 in the released code.
        correct: correct rollouts (bool or int, nonzero = True). Default: reward > 0.
        alpha: penalty of a token past the budget, at least 0.
        beta: scale, greater than 0.
        within: ``"flat"`` is the paper: within the budget all lengths are worth the same. ``"capped"`` is the released
            code, ``min(beta cos(pi n / (2 L)) - alpha abs(n - b), beta cos(pi b / (2 L)))``, in which a rollout far
            below its budget may get less. (That code rounds pi to 3.1416.)

    Returns:
        ``[N]``, in the kind and float type of ``rewards``.

    Raises:
        ValueError: wrong lengths; NaN or infinite rewards; budgets out of range.
        TypeError: wrong dtype or rank.

    Source: HBPO, arXiv 2507.15844, equations of section 3.2; paper text. ``alpha`` and ``beta`` have no number there:
    the defaults are those of the official code (read). What that code gives a prompt without a budget is not here.

    >>> hbpo_reward([1, 1, 0], [400, 800, 800], [512, 512, 512], max_length=4096, beta=1.0).round(4).tolist()
    [0.9808, 0.883, 0.0]
    """
    who = "hbpo_reward"
    choice(who, "within", within, ("flat", "capped"))
    a, scale = real(who, "alpha", alpha, low=0.0), real(who, "beta", beta, above=0.0)
    most = real(who, "max_length", max_length, above=0.0)
    r, back = column(who, "rewards", rewards)
    n = whole_rows(who, "lengths", lengths, len(r), 0, "len(rewards)")
    b = _budgets(who, budgets, len(r), most, "len(rewards)")
    bound = scale * _cosine(b, most)
    beyond = scale * _cosine(n, most) - a * np.abs(n - b)
    inside = bound if within == "flat" else np.minimum(beyond, bound)
    paid = correct_rows(who, correct, r) & (n <= most)
    return back(np.where(paid, np.where(n <= b, inside, beyond), 0.0))


def hbpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    budgets: ArrayLike,
    *,
    max_length: int,
    beta: float = 4.0,
    intra: float = 1.0,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """HBPO's advantage: ``A_i = intra (mean_b(r) - beta cos(pi b / (2 L))) + (r_i - mean(r)) / (std(r) + eps)``.

    ``mean_b`` is over the rollouts of the group with the budget ``b`` of ``i``, mean and std over the whole group. The
    first part is the same for a budget's rollouts and does not vanish where all rewards are equal.

    Args:
        rewards: those of :func:`hbpo_reward`, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``: the prompt, whatever its budget.
        budgets: tokens that the prompt of each rollout allows, whole numbers ``[N]``, from 1 to ``max_length``.
        max_length: ``L``.
        beta: scale of the reward, as there.
        intra: weight of the first part. The released code adds it twice (by reading), which ``intra=2`` reproduces.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: ddof, eps and what degenerate groups get, in the second part only.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``.

    Edge cases:
        A group of one has the first part alone by default (the released code means to give it 0). NaN rewards are
        left out of both parts with ``nan="omit"`` and get 0.

    Raises:
        ValueError: wrong lengths, budgets out of range, NaN or infinite rewards (unless ``nan=`` says otherwise).
        TypeError: wrong dtype or rank.

    Source: HBPO, arXiv 2507.15844, section 3.3 and algorithm 1; paper text, official code read. The paper has no eps.

    >>> hbpo([0.9, 0.9, 0.5, 0.1], [7, 7, 7, 7], [512, 512, 1024, 1024], max_length=4096, beta=1.0).round(3).tolist()
    [0.703, 0.703, -0.885, -1.929]
    """
    who = "hbpo"
    rules = resolve(who, who, convention, override)
    weight, scale = real(who, "intra", intra), real(who, "beta", beta, above=0.0)
    most = real(who, "max_length", max_length, above=0.0)
    r = read(who, rewards, groups, valid, rules)
    b = _budgets(who, budgets, len(r.groups), most, "len(groups)")
    inter = r.normalize()
    cells = Groups.product(r.groups, b.astype(np.int64))
    part = segment_mean(r.x, cells, valid=r.mask)[cells.index] - scale * _cosine(b, most)
    return r.wrap(np.where(r.mask, weight * part + inter, 0.0))


def _budgets(who: str, budgets: ArrayLike, length: int, most: float, why: str) -> NDArray[np.float64]:
    b = whole_rows(who, "budgets", budgets, length, 1, why)
    if (wrong := b > most).any():
        msg = f"{who}(): 'budgets' must be from 1 to {most:g} (= max_length), got {b[wrong][0]:g}"
        raise ValueError(msg)
    return b


def _cosine(n: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """``cos(pi n / (2 L))`` as a sine, so that it is exactly 0 at ``n = L``."""
    wave: NDArray[np.float64] = np.sin(np.pi / 2 * ((most - n) / most))
    return wave
