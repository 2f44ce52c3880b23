"""COPO: local (group) and global (across prompts) advantages, blended by how much the answers of a group agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import flag, mask, real, rows
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, normalize, segment_count, segment_max, segment_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Copo(NamedTuple):
    """What :func:`copo` returns, one number a rollout each.

    Attributes:
        advantages: ``weight * local + (1 - weight) * across``.
        local: the group's z-score.
        across: the z-score of the group's reward among the groups of the batch.
        weight: of the local part, from 0 to 1.
    """

    advantages: Array
    local: Array
    across: Array
    weight: Array


def copo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    answers: Groups | ArrayLike,
    *,
    steepness: float = 20.0,
    threshold: float = 0.5,
    consistency_penalty: bool = False,
    forced: bool = False,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Copo:
    """Consistency-aware advantages: ``A = w A_local + (1 - w) A_across``, ``w = sigmoid(steepness (H - threshold))``.

    ``H`` is the entropy, in bits, of the answers of the group. ``A_local`` is the z-score of a reward in its group (as
    :func:`grpo`), ``A_across`` the z-score of the group's mean reward among the groups of the batch: where all answers
    of a group agree, right or wrong, it learns from the comparison with other prompts.

    The paper blends two *losses*, not two advantages. The two are the same for a loss that is linear in the advantage;
    with clipping, take the loss of ``local`` and of ``across`` and blend them with ``weight``.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, ``[N]``; any order and sizes.
        answers: the extracted answer of each rollout as an id, ``[N]``: what :class:`~rollmath.Groups` takes. Equal
            ids in different groups are different answers.
        steepness: of the sigmoid.
        threshold: entropy in bits at which both parts count one half.
        consistency_penalty: multiply the mean reward of a group of ``n`` by ``1 - H (1 - 1/n) / log2(n)`` before the
            groups are compared. Off in the official scripts.
        forced: ``w = 0`` where all local advantages of a group are 0.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no statistic and get 0.
        convention: of both z-scores: ddof, eps and what degenerate groups get. A batch of one group is a group of one
            for ``A_across``.
        **override: fields of the convention.

    Returns:
        :class:`Copo`, each ``[N]`` in the kind and float type of ``rewards``.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards (unless ``nan=`` says otherwise).
        TypeError: wrong dtype or rank; answers that are no ids.

    Source: Han et al. 2025, arXiv 2508.04138; official code read in part. Not the "CoPG" of contrastive policy
    gradients.

    >>> out = copo([1.0, 1.0, 0.0, 0.0], ["p", "p", "q", "q"], ["7", "7", "x", "y"], threshold=0.5)
    >>> out.weight.round(3).tolist(), out.across.round(3).tolist()
    ([0.0, 0.0, 1.0, 1.0], [0.707, 0.707, -0.707, -0.707])
    """
    who = "copo"
    slope, border = real(who, "steepness", steepness, low=0.0), real(who, "threshold", threshold)
    penalty, must = flag(who, "consistency_penalty", consistency_penalty), flag(who, "forced", forced)
    rules = resolve(who, who, convention, override)
    made = as_groups(who, groups)
    r, back = rows(who, "rewards", rewards, len(made))
    said = as_groups(who, answers, length=len(made), name="answers")
    seen = mask(who, "valid", valid, len(made))
    if rules.nan == "omit":
        seen &= ~np.isnan(r)
    local = normalize(r, made, valid=seen, convention=rules, name="rewards", who=who)
    entropy, n = _entropy(made, said, seen)
    mean = segment_mean(r, made, valid=seen)
    if penalty:
        mean = mean * (1.0 - entropy * (1.0 - 1.0 / np.maximum(n, 1)) / np.log2(np.maximum(n, 2)))
    across = normalize(
        mean, np.zeros(len(mean), dtype=np.int64), valid=n > 0, convention=rules, name="rewards", who=who
    )
    weight = np.exp(-np.logaddexp(0.0, -slope * (entropy - border)))
    if must:
        weight[segment_max(np.abs(local), made, valid=seen) == 0] = 0.0
    a, w = (np.where(seen, gather(x, made), 0.0) for x in (across, weight))
    return Copo(back(w * local + (1.0 - w) * a), back(local), back(a), back(w))


def _entropy(
    groups: Groups, answers: Groups, seen: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Entropy in bits of the answers of each group, and its number of rollouts.

    The mean over rollouts of -log2 of the share of their answer: exactly 0 if all agree.
    """
    pairs = Groups.product(groups, answers)
    n = segment_count(groups, valid=seen).astype(np.float64)
    count = gather(segment_count(pairs, valid=seen), pairs)
    surprise = np.log2(np.where(seen, gather(n, groups) / np.maximum(count, 1), 1.0))
    return np.where(n > 0, segment_mean(surprise, groups, valid=seen), 0.0), n
