"""Rewards of a forest against the mean of their prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath.conventions import Convention
from rollmath.ops import gather, normalize, root, segment_sum, segment_weighted_mean, up

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.forest import Forest

    Floats = NDArray[np.float64]


def over_prompt(
    who: str,
    forest: Forest,
    r: Floats,
    rules: Convention,
    *,
    center: Literal["mean", "loo"] = "mean",
    how: Literal["leaf_mean", "mean_of_children"] = "leaf_mean",
) -> Floats:
    """What ``up`` makes of ``r - mean of the prompt``, or of the prompt's other rewards, one number a node.

    Both are linear, so the mean is subtracted last, where it is a root's value at no further cost. Equal rewards in a
    prompt give exactly 0, and so does a node that has all rollouts of a prompt of one tree.
    """
    value = up(forest, r, how=how)
    tops = value[forest.roots]
    means = tops if how == "leaf_mean" else up(forest, r, how="leaf_mean")[forest.roots]
    n = forest.leaf_counts[forest.roots].astype(np.float64)
    size = segment_sum(n, forest.groups)
    mean = gather(segment_weighted_mean(means, forest.groups, n), forest.groups)
    value[forest.roots] = mean
    with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
        value -= root(forest, value)
        value[forest.roots] = tops - mean
        if center == "loo":
            value *= (size / np.maximum(size - 1, 1))[forest.groups.index][forest.tree]
    if rules.singleton != "zero" and (alone := size == 1).any():
        # These are 0 so far, at all nodes of the prompt.
        rows = alone[forest.groups.index][forest.tree[forest.leaves]]
        lone = normalize(
            r, forest.rollout_groups, center=center, scale="none", valid=rows, convention=rules, name="rewards", who=who
        )
        value += up(forest, lone, how="sum")
    return np.asarray(value)
