"""Rewards without labels: how often the others of the group gave the same answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, choice, is_tensor
from rollmath._checks import flag, mask, real
from rollmath.groups import Groups, as_groups
from rollmath.ops import segment_count, segment_max, segment_mean, segment_min

if TYPE_CHECKING:
    from numpy.typing import NDArray


def vote_reward(
    answers: Groups | ArrayLike,
    groups: Groups | ArrayLike,
    *,
    alpha: float = 0.75,
    normalized: bool = False,
    valid: ArrayLike | None = None,
) -> Array:
    """TTRV: ``p_i - alpha H``, the share of the group that gave the answer of ``i`` minus the entropy of its answers.

    ``H = -sum_a p_a log(p_a)`` over the answers of the group, in nats. ``H`` is one number a group: where advantages
    subtract the mean of the group it cancels, and only acts on a baseline over the batch or on none.

    Args:
        answers: one id a rollout, ``[N]``: whatever :class:`~rollmath.Groups` takes. Equal ids are equal answers.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        alpha: weight of the entropy.
        normalized: divide ``H`` by the logarithm of the number of different answers of the group (0 for one answer).
        valid: rollouts that have an answer (bool or int, nonzero = True); the others do not vote and get 0.

    Returns:
        ``[N]``, float64; a float32 tensor if ``answers`` is a tensor.

    Edge cases:
        A group of one has ``p`` = 1 and ``H`` = 0, and gets 1.

    Raises:
        ValueError: wrong lengths; an ``alpha`` that is not finite.
        TypeError: answers that are no ids (None: leave it out by ``valid=``, and put any id of the right type).

    Source: TTRV, arXiv 2510.06783; secondary description, unverified. A copy of its code that we read has 0.75 and
    ``normalized=True``.

    >>> vote_reward(["x", "x", "y"], [0, 0, 0], alpha=0.0).round(4).tolist()
    [0.6667, 0.6667, 0.3333]
    """
    who = "vote_reward"
    weight, per_answer = real(who, "alpha", alpha), flag(who, "normalized", normalized)
    poll = _poll(who, answers, groups, valid)
    count, total = poll.votes[poll.cells.index], np.maximum(poll.total, 1)[poll.groups.index]
    # The entropy is the mean of log(1 / p) over rollouts.
    entropy = segment_mean(np.log(total / np.maximum(count, 1)), poll.groups, valid=poll.seen)
    if per_answer:
        different = np.bincount(poll.owner[poll.votes > 0], minlength=poll.groups.n_groups)
        entropy = np.where(different > 1, entropy / np.log(np.maximum(different, 2)), 0.0)
    return poll.result(count / total - weight * np.nan_to_num(entropy)[poll.groups.index])


def majority_reward(
    answers: Groups | ArrayLike,
    groups: Groups | ArrayLike,
    *,
    ties: Literal["split", "first", "none"] = "split",
    valid: ArrayLike | None = None,
) -> Array:
    """TTRL: ``1`` for the answer that most rollouts of the group gave, ``0`` for the others.

    Args:
        answers: one id a rollout, ``[N]``: whatever :class:`~rollmath.Groups` takes. Equal ids are equal answers.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        ties: ``k`` answers that are equally frequent get ``"split"`` 1 / k each, what a fair draw gives on average;
            ``"first"`` 1 for the one that appears first and 0 for the others, as in TTRL's code, so that the order of
            the rollouts matters; ``"none"`` 0.
        valid: rollouts that have an answer (bool or int, nonzero = True); the others do not vote and get 0.

    Returns:
        ``[N]``, float64; a float32 tensor if ``answers`` is a tensor.

    Edge cases:
        A group of one gets 1.

    Raises:
        ValueError: wrong lengths; an unknown ``ties``.
        TypeError: answers that are no ids (None: leave it out by ``valid=``, and put any id of the right type).

    Source: TTRL, arXiv 2504.16084; official code read (it votes on extracted answers, and grades rollouts against the
    winner with its own checker: equal ids stand for both here).

    >>> majority_reward(["x", "x", "y", "z", "u"], [0, 0, 0, 1, 1]).tolist()
    [1.0, 1.0, 0.0, 0.5, 0.5]
    """
    who = "majority_reward"
    choice(who, "ties", ties, ("split", "first", "none"))
    poll = _poll(who, answers, groups, valid)
    votes = poll.votes.astype(np.float64)
    owners = as_groups(who, poll.owner)
    wins = (votes > 0) & (votes == segment_max(votes, owners)[owners.index])
    ways = np.bincount(poll.owner[wins], minlength=poll.groups.n_groups)[poll.owner]
    share = wins / np.maximum(ways, 1)
    if ties == "none":
        share = (wins & (ways == 1)).astype(np.float64)
    elif ties == "first":
        rows = segment_min(np.arange(len(poll.groups)), poll.cells, valid=poll.seen)
        rows = np.where(wins, rows, np.inf)
        earliest = segment_min(rows, owners)[owners.index]
        share = (wins & (rows == earliest)).astype(np.float64)
    return poll.result(share[poll.cells.index])


@dataclass(frozen=True)
class _Poll:
    """Votes for each answer of each group; a cell is an answer in a group, and ``owner`` its group."""

    groups: Groups
    cells: Groups
    owner: NDArray[np.int64]
    votes: NDArray[np.int64]
    total: NDArray[np.int64]
    seen: NDArray[np.bool_]
    kind: Kind

    def result(self, out: NDArray[np.float64]) -> Array:
        out = np.where(self.seen, out, 0.0)
        return self.kind.wrap(out.astype(np.float32) if self.kind.is_torch else out)


def _poll(who: str, answers: Groups | ArrayLike, groups: Groups | ArrayLike, valid: ArrayLike | None) -> _Poll:
    made = as_groups(who, groups)
    cells = Groups.product(made, as_groups(who, answers, length=len(made), name="answers"))
    seen = mask(who, "valid", valid, len(made))
    return _Poll(
        groups=made,
        cells=cells,
        owner=made.index[cells.first],
        votes=segment_count(cells, valid=seen),
        total=segment_count(made, valid=seen),
        seen=seen,
        kind=Kind() if isinstance(answers, Groups) or not is_tensor(answers) else Kind(answers.device),
    )
