"""HBPO: a reward that knows the token budget of the prompt, and its advantage of two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, floats, integers, mask_bytes
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._reward_args import column, hits, option, tokens
from rollmath.groups import Groups, as_groups
from rollmath.ops import normalize, segment_mean

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
        lengths: tokens of each rollout, int ``[N]``.
        budgets: tokens that the prompt of each rollout allows, int ``[N]``, from 1 to ``max_length``.
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
    a, scale = option(who, "alpha", alpha, least=0), option(who, "beta", beta, above=0)
    most = option(who, "max_length", max_length, above=0)
    r = column(who, "rewards", rewards)
    n = tokens(who, "lengths", lengths, len(r.values), 0, "len(rewards)")
    b = _budgets(who, budgets, len(r.values), most, "len(rewards)")
    bound = scale * _cosine(b, most)
    beyond = scale * _cosine(n, most) - a * np.abs(n - b)
    inside = bound if within == "flat" else np.minimum(beyond, bound)
    paid = hits(who, correct, r) & (n <= most)
    return r.result(np.where(paid, np.where(n <= b, inside, beyond), 0.0))


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
        budgets: tokens that the prompt of each rollout allows, int ``[N]``, from 1 to ``max_length``.
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
    weight, scale = option(who, "intra", intra), option(who, "beta", beta, above=0)
    most = option(who, "max_length", max_length, above=0)
    made = as_groups(who, groups)
    values, kind = floats(who, "rewards", rewards, length=len(made))
    wide = values.astype(np.float64)
    b = _budgets(who, budgets, len(made), most, "len(groups)")
    mask = mask_bytes(who, "valid", valid, length=len(made))
    inter = normalize(wide, made, valid=mask, convention=rules, name="rewards", who=who)
    taken = np.ones(len(made), dtype=bool) if mask is None else mask != 0
    if rules.nan == "omit":
        taken &= ~np.isnan(wide)
    cells = Groups.product(made, b.astype(np.int64))
    part = segment_mean(wide, cells, valid=taken)[cells.index] - scale * _cosine(b, most)
    out = np.where(taken, weight * part + inter, 0.0)
    return kind.wrap(out.astype(values.dtype, copy=False))


def _budgets(who: str, budgets: ArrayLike, length: int, most: float, why: str) -> NDArray[np.float64]:
    b, _ = integers(who, "budgets", budgets, length=length, why=why)
    if (wrong := (b < 1) | (b > most)).any():
        msg = f"{who}(): 'budgets' must be from 1 to {most:g} (= max_length), got {b[wrong][0]}"
        raise ValueError(msg)
    return b.astype(np.float64)


def _cosine(n: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """``cos(pi n / (2 L))`` as a sine, so that it is exactly 0 at ``n = L``."""
    wave: NDArray[np.float64] = np.sin(np.pi / 2 * ((most - n) / most))
    return wave
