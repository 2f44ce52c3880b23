"""A baseline for branches that a branch has no part in, and the weights of fresh probes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, floats
from rollmath._checks import required_mask
from rollmath.forest import Forest, as_forest
from rollmath.ops import down, gather, parent, segment_sum, segment_weighted_mean, up
from rollmath.tree._common import leaf_rewards

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OutsideSubtree(NamedTuple):
    """Result of :func:`outside_subtree`.

    Attributes:
        advantages: ``[n_nodes]`` by node id, in the kind and float type of the rewards.
        undefined: number of nodes, roots left out, that no other rollout can be compared with; they got 0.
    """

    advantages: Array
    undefined: int


def outside_subtree(
    forest: Forest,
    rewards: ArrayLike,
    *,
    value: Literal["leaf_mean", "mean_of_children"] = "leaf_mean",
    climb: Literal["tree", "group", "none"] = "tree",
) -> OutsideSubtree:
    """What a branch has gained over the rollouts beside it, none of which it is a part of.

    With ``V(v)`` the mean reward of the ``n_v`` rollouts through ``v``, and ``p`` its parent,

    ``A(v) = V(v) - B(v)``, ``B(v) = (n_p V(p) - n_v V(v)) / (n_p - n_v)``,

    the mean over the rollouts through ``p`` that do not go through ``v``. Given the prefix that ends at ``p``, they are
    drawn independently of the step to ``v``, so the baseline leaves the policy gradient of that step unbiased. A
    baseline over all rollouts of a prompt or of a tree (GRPO, Tree-GRPO, TreeRL, TreePO) contains rollouts that have
    the very step in their prefix, and is biased for it. A mean in which the node itself is contained shrinks the
    advantage to the share of the others, ``(n_p - n_v) / n_p`` here and ``(b - 1) / b`` of ``b`` children in SPO: one
    factor for all only where branches are equally wide, or equally many.

    An only child has nobody beside it; the baseline then comes from the nearest ancestor with other rollouts.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        value: ``"leaf_mean"``: as above. ``"mean_of_children"``: V is the mean of the children, and B that of the
            siblings; also unbiased where how wide a branch grows depends on what is in it (some end early), which then
            makes a mean over leaves a biased estimate of V itself.
        climb: how far an only child looks: up its ``"tree"``; then also at the other trees of its ``"group"``;
            ``"none"``: not beyond its parent.

    Returns:
        :class:`OutsideSubtree`. Roots get 0, and so does a node that nothing can be compared with. Equal values give
        exactly 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards; rewards that require grad.

    Source: own derivation, on the leave-one-out baselines of arXiv 1803.08475 and 2402.14740.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> outside_subtree(forest, [0.0, 1.0, 0.0]).advantages.tolist()
    [0.0, 0.5, -0.5, 1.0, -1.0]
    """
    who = "outside_subtree"
    made = as_forest(who, forest)
    choice(who, "value", value, ("leaf_mean", "mean_of_children"))
    choice(who, "climb", climb, ("tree", "group", "none"))
    x, kind = leaf_rewards(who, made, rewards, propagate=None)

    values = up(made, x.astype(np.float64, copy=False), how=value)
    # How much of what is below its parent a node is, in rollouts or in children.
    if value == "leaf_mean":
        part = made.leaf_counts.astype(np.float64)
        whole = parent(made, part)
    else:
        part = np.ones(made.n_nodes)
        whole = gather(made.siblings.counts, made.siblings).astype(np.float64)
    above = parent(made, values)
    whole[made.roots] = np.nan
    if climb == "group":
        _among_trees(made, values, part, above, whole)
    known = whole > part
    if climb != "none":
        # An only child has the rollouts of its parent: what was found for the parent is meant for it, too.
        above = down(made, np.where(known, above, np.nan), how="last")
        whole = down(made, np.where(known, whole, np.nan), how="last")
        known = ~np.isnan(above)
    with np.errstate(invalid="ignore", divide="ignore"):
        advantages = np.where(known, (values - above) * (whole / (whole - part)), 0.0)
    advantages[made.roots] = 0.0
    undefined = int(np.count_nonzero(~known & (made.parents >= 0)))
    return OutsideSubtree(kind.wrap(advantages.astype(x.dtype, copy=False)), undefined)


def _among_trees(
    forest: Forest,
    values: NDArray[np.float64],
    part: NDArray[np.float64],
    above: NDArray[np.float64],
    whole: NDArray[np.float64],
) -> None:
    """Compares roots with the other trees of their group; fills their places in the last two."""
    roots, groups = forest.roots, forest.groups
    whole[roots] = gather(segment_sum(part[roots], groups), groups)
    above[roots] = gather(segment_weighted_mean(values[roots], groups, part[roots]), groups)


def probe_only_fresh(forest: Forest, original: ArrayLike) -> Array:
    """Weights with which the continuation that a fork was chosen by has no part in the value of the fork.

    ``w(v) = 0`` if ``v`` continues the rollout that was forked and has siblings, else 1; for ``ops.up(weights=)``.

    A sampler that forks a finished rollout where a token was surprising (EPTree in TreeRL) has looked at the
    continuation before it chose the place: the original branch is there because it holds a surprising token. Only the
    fresh continuations are independent draws from the prefix, so they alone estimate the value of the fork without
    bias. A sampler that decides by the prefix, such as ARPO's, which looks at the entropy of a step that all branches
    share, needs no such weights.

    Above a fork it is the other way round: which prefix is forked depends on the rollout, which itself is an unbiased
    sample of every node that was not chosen by it. For the value of a root take the rollouts that were not forked off.

    Args:
        forest: a :class:`~rollmath.Forest`.
        original: bool or int (nonzero = True), ``[n_nodes]``: the nodes that continue the rollout that was forked.

    Returns:
        float64 ``[n_nodes]``, or float32 for a tensor.

    Raises:
        ValueError: wrong length, or more than one original among siblings.

    Source: own derivation; the sampler is that of TreeRL, arXiv 2506.11902.

    >>> forest = Forest.from_parents([-1, 0, 1, 1, 1])
    >>> weights = probe_only_fresh(forest, [False, True, True, False, False])
    >>> weights.tolist(), up(forest, [1.0, 0.0, 0.5], how="mean_of_children", weights=weights).tolist()
    ([1.0, 1.0, 0.0, 1.0, 1.0], [0.25, 0.25, 1.0, 0.0, 0.5])
    """
    who = "probe_only_fresh"
    made = as_forest(who, forest)
    first = required_mask(who, "original", original, made.n_nodes, "forest.n_nodes")
    siblings = made.siblings
    twice = np.bincount(siblings.index[first], minlength=siblings.n_groups) > 1
    if twice.any():
        at = int(siblings.first[np.flatnonzero(twice)[0]])
        msg = (
            f"{who}(): 'original' must mark at most one of the children of a node, but marks several of node "
            f"{int(made.parents[at])}"
        )
        raise ValueError(msg)
    weights = np.where(first & (gather(siblings.counts, siblings) > 1), 0.0, 1.0)
    kind = floats(who, "original", original)[1]
    return kind.wrap(weights.astype(np.float32) if kind.is_torch else weights)
