"""Policy filtration: train more, or alone, on the rollouts whose reward can be relied on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rollmath import ops
from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real, rows
from rollmath.groups import Groups
from rollmath.select._candidates import Candidates, Nan, Per, read
from rollmath.select._selection import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Why a rollout has the weight 0.
_REASONS = {
    "best": "not the best",
    "best_random": "weight of 0",
    "best_worst": "neither best nor worst",
    "power": "weight of 0",
    "max_min": "neither highest nor lowest",
    "max_random": "weight of 0",
}


class Filtration(NamedTuple):
    """Weights of rollouts, and the selection of those whose weight is not 0.

    Attributes:
        weights: one a rollout, at least 0, in the kind and float type of the rewards.
        selection: a :class:`Selection` of the rollouts with a positive weight; its report says why others have none.
    """

    weights: Array
    selection: Selection


def policy_filtration(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    how: Literal["best", "best_random", "best_worst", "power", "max_min", "max_random"],
    power: float = 2.0,
    per: Per = "group",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Filtration:
    """Weights of rollouts by their place in the group: ``w = 1`` for the best, ``w = |r|^p``, and four more.

    A reward model is most reliable at the ends of its range, so PF-PPO trains on responses drawn with these weights
    (:func:`resample`). Of a group of ``n``:

    - ``"best"``: 1 for the best, 0 for the others (best of N);
    - ``"best_random"``: 1/2 for the best, ``1 / (2 (n - 1))`` for each of the others;
    - ``"best_worst"``: 1/2 for the best, 1/2 for the worst;
    - ``"power"``: ``|r|^power``, whatever the others have;
    - ``"max_min"``: 1 for all with the highest or the lowest reward;
    - ``"max_random"``: 0.4 for all with the highest reward, 0.1 for the others.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        how: one of the six. The first three single out one best and one worst, and add up to 1 in each group; the last
            three count equal rewards alike, and do not add up to anything.
        power: exponent of ``"power"``, at least 0; 0 is the same weight for all.
        per: ``"group"``, or ``"batch"``: the best and worst of the whole batch.
        ties: one number a rollout; of equal rewards the lowest of these is the best, or the worst, such as the length.
        uid: one id a rollout, all different; then neither the order of the rows nor shards matter.
        seed: chooses among equal rewards at random, by a hash of uid and seed, where ``ties`` leaves a choice.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, of weight 0.
        valid: rollouts that take part (bool or int, nonzero = True); the others have weight 0.

    Returns:
        A :class:`Filtration`: weights, and the :class:`Selection` of those that are not 0. Statistics are those
        ``"before"``: of a group of which the best alone is kept there is no other mean.

    Edge cases: a group of one is best and worst at once, and has the weight 1 under the first three. In a group without
    spread the best is the first in preference and the worst is the second; :func:`nonzero_spread` leaves such groups
    out. Under ``"power"`` a rollout with reward 0 has no weight, and a group
    of these is dropped: the report names it.

    What others do: verl 0.9.1 has the last three for the whole batch (``per="batch"``), adds 1e-8 to each weight, so
    that no rollout is out of reach, and draws as many rollouts as there are. The authors' code has ``"power"``, and per
    prompt 1 for one best and one worst, or 0.4 for one best and 0.1 for the others (``"max_random"`` where rewards
    differ; for five responses in the proportion of ``"best_random"``); of equal rewards the last row is the best and
    the first the worst. Its other version keeps the best and one other at random: on average ``"best_random"``.

    Raises:
        ValueError: wrong lengths; rewards that are infinite, or NaN unless omitted; ``power`` negative; a power of a
            reward past the float type.
        TypeError: wrong dtype or rank.

    Source: PF-PPO, arXiv 2409.06957 (weights from a secondary description); the authors' code, swtheing/PF-PPO-RLHF at
    6b93abf, and verl's were executed.

    >>> weights, chosen = policy_filtration([0.1, 0.9, 0.4, 0.7, 0.2], [0] * 5, how="best_random")
    >>> weights.tolist()
    [0.125, 0.5, 0.125, 0.125, 0.125]
    >>> weights, chosen = policy_filtration([0.1, 0.9, 0.4, 0.7, 0.2], [0] * 5, how="best_worst")
    >>> weights.tolist(), chosen.indices.tolist()
    ([0.5, 0.5, 0.0, 0.0, 0.0], [0, 1])
    """
    who = "policy_filtration"
    choice(who, "how", how, tuple(_REASONS))
    choice(who, "per", per, ("group", "batch"))
    exponent = real(who, "power", power, low=0.0)
    r = read(who, rewards, groups, nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    back = rows(who, "rewards", rewards)[1]
    if how == "power":
        weights = _powers(who, r, exponent, back.dtype)
    elif how in {"max_min", "max_random"}:
        weights = _ends(r, how, per)
    else:
        weights = _one_of_each(r, how, per)
    weights = np.where(r.seen, weights, 0.0)
    # Weights that the float type of the result rounds to 0 are 0.
    none = weights.astype(back.dtype) == 0
    return Filtration(back(weights), r.select([(_REASONS[how], none)], statistics="before"))


def _one_of_each(r: Candidates, how: str, per: Per) -> NDArray[np.float64]:
    """One best and one worst rollout."""
    outer = _outer(r, per)
    n = outer.counts[index := outer.groups.index]
    best = r.places(-r.x, per=per) == 0
    if how == "best":
        return np.asarray(best, np.float64)
    if how == "best_random":
        return np.asarray(np.where(best, np.where(n == 1, 1.0, 0.5), 0.5 / np.maximum(n - 1, 1)))
    # The worst is not the best, unless it is alone: without a spread it is the second in preference.
    below = r.places(r.x, per=per)
    flat = np.zeros(outer.groups.n_groups, bool)
    flat[index[best & (below == 0)]] = True
    worst = below == np.where(flat[index] & (n > 1), 1, 0)
    return np.asarray(0.5 * best + 0.5 * worst)


def _ends(r: Candidates, how: str, per: Per) -> NDArray[np.float64]:
    """All rollouts with the highest, or lowest, reward."""
    outer = _outer(r, per)
    groups = outer.groups
    at_top = r.x == ops.gather(ops.segment_max(r.x, groups, valid=outer.only), groups)
    if how == "max_random":
        return np.where(at_top, 0.4, 0.1)
    return np.asarray(at_top | (r.x == ops.gather(ops.segment_min(r.x, groups, valid=outer.only), groups)), np.float64)


def _outer(r: Candidates, per: Per) -> Candidates:
    """In the groups that have one best rollout each."""
    return r if per == "group" else replace(r, groups=Groups(np.zeros(len(r.x), np.int64)))


def _powers(who: str, r: Candidates, power: float, dtype: type) -> NDArray[np.float64]:
    x = np.abs(np.where(r.seen, r.x, 0.0))
    with np.errstate(over="ignore", under="ignore"):
        out = np.asarray(x**power)
        wide = ~np.isfinite(out.astype(dtype))
    if wide.any():
        i = int(np.argmax(wide))
        fits = f"have a power {power:g} within {np.dtype(dtype)}"
        msg = f"{who}(): 'rewards' must {fits}, got {r.x[i]:g} at index {i}; scale them"
        raise ValueError(msg)
    return out
