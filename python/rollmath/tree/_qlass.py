"""QLASS: process values by the best continuation of an exploration tree."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real, whole
from rollmath.forest import Forest, as_forest
from rollmath.groups import Groups, as_groups
from rollmath.ops import backup, down, gather, segment_max, segment_min, up
from rollmath.tree._common import leaf_rewards

if TYPE_CHECKING:
    from numpy.typing import NDArray


def qlass(
    forest: Forest,
    rewards: ArrayLike,
    *,
    gamma: float = 0.9,
    height: int = 5,
    on_the_way: Literal["leaf_mean", "zero"] = "leaf_mean",
    actions: Groups | ArrayLike | None = None,
    scale: Literal["none", "min_max"] = "none",
) -> Array:
    """Q-values of steps: ``Q(v) = r(v) + gamma max_c Q(c)``, at a leaf ``Q = r sum_{i < m} gamma^i``.

    ``r`` is the reward at a leaf and the mean over the leaves below at other nodes. A leaf stands for the steps that
    it ends before the tree's nominal height, each rewarded alike: ``m = max(height - depth, 1)``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        gamma: discount of a step, in [0, 1].
        height: nominal height of a tree, in nodes: a leaf at depth ``height - 1`` and below has ``Q = r``.
        on_the_way: reward of inner nodes, ``"leaf_mean"`` as above; ``"zero"`` is the plain outcome (with ``height=1``,
            as in the official ablation, ``Q = gamma^steps max r``).
        actions: one id a node (strings, ints, ...), ``[n_nodes]``, or :class:`~rollmath.Groups`. Of siblings with the
            same action only the first by node id is kept; the others are taken out, with all that is below, before
            anything is computed.
        scale: ``"min_max"``: ``(Q - min) / (max - min)`` over the nodes of a tree but its root, 0 where all are equal.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``; NaN for nodes taken out. Roots have their
        Q, and 0 with ``"min_max"``, in which they take no part.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards, ``gamma`` out of range, ``height`` below 1.
        TypeError: wrong dtype or rank.

    Source: QLASS, arXiv 2502.02584, official code executed on random trees, with repeated actions and scaling, and
    agrees; the plain outcome is from its code, read.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> qlass(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [2.9784, 2.939, 0.0, 2.71, 0.0]
    >>> qlass(forest, [0.0, 1.0, 0.0], scale="min_max").round(4).tolist()
    [0.0, 1.0, 0.0, 0.9221, 0.0]
    """
    who = "qlass"
    made = as_forest(who, forest)
    discount, nominal = real(who, "gamma", gamma, low=0.0, high=1.0), whole(who, "height", height)
    choice(who, "on_the_way", on_the_way, ("leaf_mean", "zero"))
    choice(who, "scale", scale, ("none", "min_max"))
    x, kind = leaf_rewards(who, made, rewards, propagate=None)
    tree, reward, nodes = made, x.astype(np.float64, copy=False), np.arange(made.n_nodes)
    if actions is not None:
        keep = _distinct(made, as_groups(who, actions, name="actions"))
        tree, report = made.prune(keep)
        reward, nodes = reward[keep], report.kept_nodes

    r = up(tree, reward, how="leaf_mean") if on_the_way == "leaf_mean" else np.zeros(tree.n_nodes)
    steps = np.maximum(nominal - tree.depth[tree.leaves], 1)
    r[tree.leaves] = reward * _geometric(discount, steps)
    q = np.asarray(backup(tree, r, gamma=discount))
    if scale == "min_max":
        q = _min_max(tree, q)
    out = np.full(made.n_nodes, np.nan)
    out[nodes] = q
    return kind.wrap(out.astype(x.dtype, copy=False))


def _distinct(forest: Forest, actions: Groups) -> NDArray[np.bool_]:
    """Leaves without a repeated action on their path."""
    if len(actions) != forest.n_nodes:
        msg = f"qlass(): 'actions' must have length {forest.n_nodes} (= forest.n_nodes), got {len(actions)}"
        raise ValueError(msg)
    pair = forest.siblings.index * actions.n_groups + actions.index
    out = np.ones(forest.n_nodes, bool)
    out[np.unique(pair, return_index=True)[1]] = False
    repeated = np.asarray(down(forest, out, how="max"))
    keep: NDArray[np.bool_] = repeated[forest.leaves] == 0.0
    return keep


def _geometric(gamma: float, n: NDArray[np.int64]) -> NDArray[np.float64]:
    """``sum_{i < n} gamma^i``, for ``n`` of at least 1."""
    if gamma in {0.0, 1.0}:
        return np.where(gamma == 1.0, n, 1).astype(np.float64)
    out: NDArray[np.float64] = np.expm1(n * math.log(gamma)) / (gamma - 1.0)
    return out


def _min_max(forest: Forest, q: NDArray[np.float64]) -> NDArray[np.float64]:
    trees, below = forest.node_trees, forest.parents >= 0
    low = gather(segment_min(q, trees, valid=below), trees)
    width = gather(segment_max(q, trees, valid=below), trees) - low
    with np.errstate(invalid="ignore"):  # a root alone has neither
        out = np.where(width > 0.0, (q - low) / np.where(width > 0.0, width, 1.0), 0.0)
    out[forest.roots] = 0.0
    return out
