"""The arithmetic of a term of :func:`~rollmath.tree.credit`, switch by switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath.forest import Forest
from rollmath.groups import Groups
from rollmath.ops import down, gather, normalize, parent, segment_mean, segment_sum, segment_weighted_mean, up
from rollmath.tree._credit_rule import Credit, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Leaves:
    """What the terms start from; ``truncated`` one a rollout, ``weights`` one a node."""

    forest: Forest
    rewards: Floats
    truncated: NDArray[np.bool_] | None
    weights: Floats | None


def term(who: str, leaves: Leaves, rule: Credit) -> Floats:
    """``(x - B) / d``, one a node or one a rollout."""
    forest, x, seen = leaves.forest, leaves.rewards, None
    if leaves.truncated is not None and rule.truncated == "penalty":
        x = np.where(leaves.truncated, rule.penalty, x)
    elif leaves.truncated is not None and rule.truncated == "exclude":
        seen = ~leaves.truncated
    if rule.leaf != "reward":
        groups = forest.rollout_groups
        loo = rule.leaf == "loo"
        x = _normalized(who, x, groups, "loo" if loo else "mean", "none" if loo else "std", seen, rule)

    weights = leaves.weights
    if seen is not None:
        weights = _seen_only(forest, seen, weights)
    flat = rule.level == "rollout"
    if flat and rule.baseline in {"tree", "prompt", "batch"}:
        center: Literal["loo", "mean"] = "loo" if rule.own == "excluded" else "mean"
        out = _normalized(who, x, _scope(forest, rule), center, rule.scale, seen, rule)
    else:
        if rule.baseline in {"tree", "prompt", "batch"}:
            out = _against_rollouts(forest, x, seen, weights, rule)
        else:
            out = _against_nodes(who, forest, x, weights, rule)
        if seen is not None:
            out[forest.leaves[~seen]] = 0.0
        out[np.isnan(out)] = 0.0  # nothing below has a weight
        if flat:
            return out[forest.leaves]
        out[forest.roots] = 0.0
    if rule.divide == "sqrt_leaves" and not flat:
        held = forest.leaf_counts if seen is None else _held(forest, seen.astype(np.float64))
        out /= np.sqrt(np.maximum(held, 1))
    return out


def _normalized(
    who: str,
    x: Floats,
    groups: Groups,
    center: Literal["mean", "loo"] | Floats,
    scale: Scale,
    seen: NDArray[np.bool_] | None,
    rule: Credit,
) -> Floats:
    out: Floats = normalize(
        x, groups, center=center, scale=scale, valid=seen, convention=rule.convention, name="rewards", who=who
    )
    return out


def _scope(forest: Forest, rule: Credit) -> Groups:
    """Of rollouts."""
    if rule.baseline == "batch":
        return Groups(np.zeros(forest.n_leaves, dtype=np.int64))
    return forest.rollout_trees if rule.baseline == "tree" else forest.rollout_groups


def _held(forest: Forest, seen: Floats) -> Floats:
    """Number of rollouts through each node that were not left out."""
    out: Floats = up(forest, seen, how="sum")
    return out


def _against_rollouts(
    forest: Forest, x: Floats, seen: NDArray[np.bool_] | None, weights: Floats | None, rule: Credit
) -> Floats:
    """Values of nodes against the mean of the rollouts of their tree, prompt or batch."""
    values = up(forest, x, how=rule.value, weights=weights)
    groups = _scope(forest, rule)
    of_tree = np.empty(forest.n_trees, dtype=np.int64)  # every tree has a rollout
    of_tree[forest.tree[forest.leaves]] = groups.index
    scope = of_tree[forest.tree]
    gain: Floats = values - segment_mean(x, groups, valid=seen)[scope]
    if rule.own == "included":
        return gain
    took_part = np.ones(forest.n_leaves) if seen is None else seen.astype(np.float64)
    part, whole = _held(forest, took_part), segment_sum(took_part, groups)[scope]
    # The rollouts through a node in the mean are all of them, whatever they weigh in its value.
    above = gain
    if weights is not None:
        of_all = None if seen is None else _seen_only(forest, seen, None)
        above = gain - (values - up(forest, x, how="leaf_mean", weights=of_all))
    others = whole > part
    gain += above * np.divide(part, whole - part, out=np.zeros_like(part), where=others)
    return np.where(others, gain, _lone(values, rule))


def _seen_only(forest: Forest, seen: NDArray[np.bool_], weights: Floats | None) -> Floats:
    """The weights, with 0 for the other rollouts."""
    out = np.ones(forest.n_nodes) if weights is None else weights.copy()
    out[forest.leaves[~seen]] = 0.0
    return out


def _against_nodes(who: str, forest: Forest, x: Floats, weights: Floats | None, rule: Credit) -> Floats:
    """Values of nodes against those of other nodes: the parent, the siblings, the ancestors."""
    values: Floats = up(forest, x, how=rule.value, weights=weights)
    if rule.baseline == "none":
        return values.copy()
    counts = up(forest, np.ones(len(x)), how="sum", weights=weights)
    if "ancestors" in rule.baseline:
        seen = ~np.isnan(values) & (counts > 1 if rule.baseline == "shared_ancestors" else True)
        mean = parent(forest, down(forest, values, how="mean", weights=seen), root=np.nan)
        return np.where(np.isnan(mean), _lone(values, rule), values - mean)

    own = np.ones(forest.n_nodes) if weights is None else weights
    own = np.where(np.isnan(values) | (forest.parents < 0), 0.0, own)
    by_rollouts = rule.baseline == "parent" and rule.value == "leaf_mean"
    if by_rollouts:
        part, whole = own * counts, parent(forest, counts)
    else:
        part, whole = own, gather(segment_sum(own, forest.siblings), forest.siblings)
    if rule.baseline == "parent":
        above = parent(forest, values)
        if rule.root == "zero":
            above[forest.depth == 1] = 0.0
    else:
        above = gather(_mean_of_siblings(forest, values, own), forest.siblings)
    nothing = (forest.parents < 0) | (np.isnan(above) if rule.baseline == "parent" else ~(whole > 0))
    out = np.where(nothing, _lone(values, rule), values - above)
    if rule.own == "excluded":
        out = _without(out, values, part, whole, rule)
    if rule.scale == "std":
        lone = gather(segment_sum((own > 0).astype(np.float64), forest.siblings), forest.siblings) == 1
        raw = rule.convention.singleton in {"raw", "abs"}
        center = np.where(lone & raw, 0.0, np.nan_to_num(values - out))
        scaled = _normalized(who, np.nan_to_num(values), forest.siblings, center, "std", own > 0, rule)
        out = np.where(forest.parents < 0, out, scaled)
    return out


def _mean_of_siblings(forest: Forest, values: Floats, weights: Floats) -> Floats:
    some = gather(segment_sum(weights, forest.siblings), forest.siblings) > 0
    # Where nothing has a weight nothing is there to be taken; any weights do.
    w, x = np.where(some, weights, 1.0), np.where(weights > 0, values, 0.0)
    out: Floats = segment_weighted_mean(x, forest.siblings, w)
    return out


def _without(gain: Floats, values: Floats, part: Floats, whole: Floats, rule: Credit) -> Floats:
    """``V - B`` with ``B`` the mean without the part, from ``gain``, V minus the mean of the whole."""
    others = whole > part
    factor = np.divide(whole, whole - part, out=np.zeros_like(gain), where=others)
    return np.where(others, gain * factor, _lone(values, rule))


def _lone(values: Floats, rule: Credit) -> Floats:
    """What gets nothing to be compared with."""
    return values if rule.convention.singleton == "raw" else np.zeros_like(values)
