"""Max-variance down-sampling: the rollouts whose rewards differ most."""

from __future__ import annotations

from rollmath import _core
from rollmath._arrays import ArrayLike, choice
from rollmath._checks import whole
from rollmath.groups import Groups
from rollmath.select._candidates import Nan, Per, Short, read, short_groups
from rollmath.select._selection import Selection, Statistics


def max_variance(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    keep: int,
    per: Per = "group",
    short: Short = "keep",
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """The subset of largest variance: ``argmax over S of Var(r_i, i in S)``, where ``S`` has ``keep`` rollouts.

    ``S`` is always made of the ``k`` largest and the ``keep - k`` smallest for some ``k``; of 0/1 rewards it is half
    and half, as far as there are so many of each. Rollouts are cheap to sample and dear to train on: so sample many,
    and train on those that differ most (PODS).

    With ``per="batch"``, and advantages in the place of rewards, it is the sample level of D3S: the ``keep`` rollouts
    of the whole batch whose advantages have the largest variance. They are not standardised anew.

    Args:
        rewards: one number a rollout, ``[N]``; advantages for ``per="batch"``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        keep: rollouts of each group (or of the batch) to keep, at least 1.
        per: ``"group"``, or ``"batch"``: of all rollouts together; the report says what each group lost.
        short: groups with fewer than ``keep`` rollouts that take part (for ``"batch"``, a batch with fewer): ``"keep"``
            all of them, ``"drop"`` them, or ``"raise"``.
        ties: one number a rollout; among equal rewards, the lowest are kept first: the length, say.
        uid: one id a rollout, all different; with it neither the order of the rows nor shards matter.
        seed: keeps one of equal rewards at random, by a hash of uid and seed, where ``ties`` leaves a choice; without
            it the lowest uid, or the first row.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part and is dropped.
        valid: rollouts that take part (bool or int, nonzero = True); the others are dropped.

    Returns:
        A :class:`Selection`; its report tells rollouts that add less variance, groups with fewer than ``keep`` under
        ``short="drop"``, rollouts with a missing reward and those that were not valid. ``report.statistics`` is
        ``"after"`` per group (the mean and spread are those of the rollouts kept, as in PODS), ``"before"`` per batch
        (advantages stay as they are, as in D3S).

    Edge cases: where several ``k`` give the same variance, it is the smallest ``k``: the fewest of the large rewards.
    Where doubles cannot tell which is larger, it is decided without rounding, for any finite rewards. (They are taken
    as given: 0.1, 0.2, 0.3 and 0.4 as doubles are not evenly spaced; 1, 2, 3 and 4 are.)

    Of equal rewards those first in preference are kept (``ties``, ``seed``, ``uid``, row), among the large ones and
    among the small ones, and where the large and the small ones kept are equal, among these together. So of a group of
    equal rewards the first ``keep`` in preference are kept; ``nonzero_spread`` drops such groups. One rollout has no
    variance: ``keep=1`` keeps the smallest.

    What others do: the official code of PODS compares variances in float32, split by split. Its vectorised form
    (``open-r1/src/open_r1/grpo_trainer.py`` in YixuanEvenXu/pods at 187f43b) writes to a view of the sorted order that
    it goes on reading from, and so misses the largest variance in most groups; its other form
    (``trainer/maxvargrpo_trainer.py``) does not. Both were executed.

    Raises:
        ValueError: ``keep`` below 1, wrong lengths, rewards that are infinite, or NaN unless omitted, an uid twice, a
            group with fewer than ``keep`` under ``short="raise"``.
        TypeError: wrong dtype or rank.

    Source: PODS, arXiv 2504.13818 (official code read and executed); D3S, arXiv 2509.22115 (secondary description).

    >>> chosen = max_variance([0.1, 0.9, 0.4, 0.7, 0.0, 0.35], ["a"] * 6, keep=4)
    >>> chosen.indices.tolist()
    [0, 1, 3, 4]
    >>> print(chosen.report)
    max_variance kept 4 of 6 rollouts in 1 of 1 group; statistics after
      adds less variance  1 group, 2 rollouts: 'a' (2)
    """
    who = "max_variance"
    most = whole(who, "keep", keep)
    choice(who, "per", per, ("group", "batch"))
    r = read(who, rewards, groups, nan=nan, valid=valid, ties=ties, uid=uid, seed=seed)
    few = short_groups(r, most, short, per=per)
    kept = _core.select_max_variance(who, "rewards", r.within(per), r.x, r.only, r.order, min(most, max(len(r.x), 1)))
    statistics: Statistics = "after" if per == "group" else "before"
    return r.select([("adds less variance", ~kept)], [("fewer than keep", few)], statistics=statistics)
