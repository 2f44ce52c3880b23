"""Groups in which every rollout fails, or every one succeeds: which prompts want a hint, or are learnt."""

from __future__ import annotations

import math

import numpy as np

from rollmath import ops
from rollmath._arrays import Array, ArrayLike, number
from rollmath.groups import Groups
from rollmath.select._candidates import Candidates, Nan, read


def all_fail(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    threshold: float = 0.0,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Array:
    """Groups in which no rollout succeeds: ``max(r) <= threshold``, one bool a group.

    What a hint is for: such a group has no signal, and more rollouts of the same prompt are not likely to give it one.

    Args:
        rewards: one number a rollout, ``[N]``: the raw outcome, never the shaped reward. A bonus for the format lifts
            failures above the threshold, and a length penalty lets failures differ: with that, NeMo-RL's dynamic
            sampling kept groups of failures as if they had a signal (its issue 2431, mended by pull request 2478).
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        threshold: a rollout succeeds if its reward is above this: 0 for rewards of 0 and 1, or of -1 and 1.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part.
        valid: rollouts that take part (bool or int, nonzero = True); the others decide nothing.

    Returns:
        Bools ``[groups.n_groups]``, in the order of ``groups.ids``; of the kind of ``rewards``. To the rollouts:
        ``all_fail(rewards, groups)[groups.index]``.

    Edge cases: a group of which no rollout takes part is False, here and in :func:`all_pass`: nothing is known of it. A
    reward of exactly ``threshold`` is a failure. No group is both.

    Raises:
        ValueError: wrong lengths, rewards that are infinite, or NaN unless omitted, a ``threshold`` that is NaN.
        TypeError: wrong dtype or rank.

    Source: the test of GHPO, arXiv 2507.10628, and Scaf-GRPO, arXiv 2510.19807 (secondary descriptions: all rewards of
    the group are 0). Which hint comes next is the work of ``HintLadder``. A rollout with a hint is not one of the
    prompt without it: old log-probabilities must be of the text that is trained on.

    >>> from rollmath import Groups
    >>> groups = Groups(["a", "a", "b", "b", "c"])
    >>> all_fail([0.0, 0.0, 1.0, 0.0, 1.0], groups).tolist()
    [True, False, False]
    """
    r, bound = _read("all_fail", rewards, groups, threshold, nan, valid)
    # NaN, of a group without members, is not at most anything.
    return r.kind.wrap(np.asarray(ops.segment_max(r.x, r.groups, valid=r.only)) <= bound)


def all_pass(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    threshold: float = 0.0,
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Array:
    """Groups in which every rollout succeeds: ``min(r) > threshold``, one bool a group.

    What a curriculum can leave out, or come back to later.

    Args:
        rewards: one number a rollout, ``[N]``: the raw outcome, as in :func:`all_fail`.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        threshold: a rollout succeeds if its reward is above this. With partial credit 0 is little: 0.99 asks for all.
        nan: ``"raise"``, NaN is an error; ``"omit"``, it is a missing reward, which takes no part.
        valid: rollouts that take part (bool or int, nonzero = True); the others decide nothing.

    Returns:
        Bools ``[groups.n_groups]``, in the order of ``groups.ids``; of the kind of ``rewards``.

    Edge cases: a group of which no rollout takes part is False. A group of one that succeeds is True.

    Raises:
        ValueError: wrong lengths, rewards that are infinite, or NaN unless omitted, a ``threshold`` that is NaN.
        TypeError: wrong dtype or rank.

    Source: the other end of DAPO's dynamic sampling, arXiv 2503.14476, which leaves out groups of accuracy 0 and 1.

    >>> all_pass([1.0, 1.0, 1.0, 0.0, 1.0], ["a", "a", "b", "b", "c"]).tolist()
    [True, False, True]
    """
    r, bound = _read("all_pass", rewards, groups, threshold, nan, valid)
    return r.kind.wrap(np.asarray(ops.segment_min(r.x, r.groups, valid=r.only)) > bound)


def _read(
    who: str,
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    threshold: float,
    nan: Nan,
    valid: ArrayLike | None,
) -> tuple[Candidates, float]:
    bound = number(who, "threshold", threshold)
    if math.isnan(bound):
        msg = f"{who}(): 'threshold' must be a number, got nan"
        raise ValueError(msg)
    return read(who, rewards, groups, nan=nan, valid=valid), bound
