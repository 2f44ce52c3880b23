"""As many good rollouts as bad ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import real, whole
from rollmath.groups import Groups
from rollmath.select._candidates import Nan, Per, Short, read, short_groups
from rollmath.select._selection import Selection, Statistics

Order: TypeAlias = Literal["preference", "extreme"]


def balanced(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    keep: int,
    threshold: float = 0.5,
    order: Order = "preference",
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """As many above a threshold as below it: of ``n_above + n_below = keep`` the least ``|n_above - n_below|``.

    ``n_above = keep // 2`` where both sides have enough, so that an odd ``keep`` has one more below. A side with fewer
    gives all it has, and the other side fills up.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: rollouts of each group (or of the batch) to keep, at least 1.
        threshold: a reward of this or more is above. Take a number between two rewards: 0.7 in float32 is less than
            0.7. For the mean of each group, pass ``rewards`` less that mean (as ``rm.group.dr_grpo`` returns them) and
            ``threshold=0``.
        order: which rollouts of a side are kept. ``"preference"``: the first by ``ties``, ``seed``, ``uid``, row;
            ``"extreme"``: the largest of those above and the smallest of those below, of equal ones the first in
            preference.
        per: ``"group"``, or ``"batch"``: of all rollouts together.
        short: groups with fewer than ``keep`` rollouts that take part (for ``"batch"``, a batch with fewer): ``"keep"``
            all of them, ``"drop"`` them, or ``"raise"``.
        ties: one number a rollout; the lowest of a side are kept first: the length, say.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter.
        seed: keeps rollouts of a side at random, by a hash of uid and seed, where ``ties`` leaves a choice; without it
            those with the lowest uid, or the first rows.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts over the share of their side, groups with fewer than ``keep``
        under ``short="drop"``, rollouts with a missing reward and those that were not valid. Per group
        ``report.statistics`` is ``"after"``: the mean of all would keep the balance of before. Per batch it is None.

    Edge cases: a group on one side of the threshold is kept on that side alone, ``keep`` of it. Of 0/1 rewards this is
    :func:`max_variance`.

    What others do: TreeRL (``balance_ratio``) takes ``int(keep * ratio)`` correct and as many incorrect ones, and the
    rest at random among all that are left; ``seed=`` and ``keep=2 * int(keep * ratio)`` is its first step. Trinity-RFT
    (``drop="balance"`` of its REC advantages) drops rollouts below the mean of the group at random until there are no
    more of them than of the others, never the reverse, and keeps no fixed number; its mean and spread are those
    of the rollouts kept. torchrl's ``MCAdvantageSelector`` means something else: of all subsets, ``"balanced"`` takes
    one whose mean is nearest to the middle of a band, the one of widest range, and ``"uniform"`` takes rewards at even
    steps of their order. All three were read.

    Raises:
        ValueError: ``keep`` below 1, wrong lengths, rewards that are infinite, or NaN unless omitted, a ``threshold``
            that is not finite, an uid twice, a group with fewer than ``keep`` under ``short="raise"``.
        TypeError: wrong dtype or rank.

    Source: our definition; see what others do.

    >>> rewards = [1, 1, 1, 1, 1, 0, 1, 0]
    >>> balanced(rewards, ["a"] * 8, keep=4).indices.tolist()
    [0, 1, 5, 7]
    >>> balanced(rewards, ["a"] * 8, keep=4, ties=[9, 8, 7, 6, 5, 4, 3, 2]).indices.tolist()
    [4, 5, 6, 7]
    """
    who = "balanced"
    most = whole(who, "keep", keep)
    bound = real(who, "threshold", threshold)
    choice(who, "order", order, ("preference", "extreme"))
    choice(who, "per", per, ("group", "batch"))
    r = read(who, rewards, groups, nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    few = short_groups(r, most, short, per=per)
    above = r.x >= bound
    outer = r.groups if per == "group" else Groups(np.zeros(len(above), np.int64))
    key = np.where(above, -r.x, r.x) if order == "extreme" else np.zeros(len(above))
    place = replace(r, groups=Groups.product(outer, above.view(np.int8))).places(key)

    n_above, n_below = (np.bincount(outer.index[r.seen & side], minlength=outer.n_groups) for side in (above, ~above))
    most = min(most, len(above))
    from_above = np.minimum(n_above, np.maximum(most // 2, most - n_below))
    share = np.where(above, from_above[outer.index], most - from_above[outer.index])
    statistics: Statistics | None = "after" if per == "group" else None
    return r.select([("over the share of its side", place >= share)], [("fewer than keep", few)], statistics=statistics)
