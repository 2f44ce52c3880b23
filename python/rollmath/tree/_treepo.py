"""TreePO: each rollout against the subtrees it is in; and its two variants that have one number a segment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import flag, real
from rollmath.conventions import TREEPO, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.ops import down, gather, parent, segment_std, segment_sum, up
from rollmath.tree._common import leaf_rewards
from rollmath.tree._prompts import over_prompt
from rollmath.tree._siblings import among_siblings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def treepo(
    forest: Forest,
    rewards: ArrayLike,
    *,
    form: Literal["average", "group_size"] = "average",
    remove_no_std_subgroup: bool = False,
    convention: Convention | Framework = TREEPO,
    **override: Unpack[Override],
) -> Array:
    """TreePO: ``A_l = sum_a w_a (r_l - V(a)) / sum_a w_a`` over the groups ``a`` that rollout ``l`` is in.

    The first group is the prompt, the others the subtrees of the nodes between root and leaf with more than one leaf;
    ``V(a)`` is the mean reward of the leaves of ``a``. Nothing is divided by a spread.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        form: the weights: ``"average"`` ``w = 1``; ``"group_size"`` the number of leaves of ``a``.
        remove_no_std_subgroup: leave out subtrees whose rewards are all equal, too (never the prompt).
        convention: what the rollout of a prompt with no other gets (``singleton``) and what NaN does. Default
            ``conventions.TREEPO``: its reward.
        **override: fields of the convention.

    Returns:
        ``[n_leaves]``, in the kind and float type of ``rewards``, for all tokens of a rollout. Equal rewards in a
        prompt give exactly 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad.

    The code whitens the result over the tokens of the batch, a step of its own here (``temporal.whiten``). Its trainer
    glues the first branch to the prompt's id without a separator, so that in training the first group is not the
    prompt but the subtree of the first branch: a forest of these subtrees, each a tree in a group of its own, has that.

    Source: TreePO, arXiv 2508.17445, the paper from a secondary description. The formulas are those of the official
    code, multimodal-art-projection/TreePO, which was executed on a reference tree and agrees for both forms; it looks
    at every depth in turn where this is one pass.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> treepo(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [-0.3333, 0.5833, -0.4167]
    """
    made = as_forest("treepo", forest)
    choice("treepo", "form", form, ("average", "group_size"))
    remove = flag("treepo", "remove_no_std_subgroup", remove_no_std_subgroup)
    rules = resolve("treepo", "treepo", convention, override)
    x, kind = leaf_rewards("treepo", made, rewards, propagate=rules.nan == "propagate")
    r = x.astype(np.float64, copy=False)
    value = over_prompt("treepo", made, r, rules)
    use = made.leaf_counts > 1
    if remove:
        use &= up(made, r, how="min") < up(made, r, how="max")
    weight = np.where(use, made.leaf_counts, 0) if form == "group_size" else use
    out = _less_subtrees(made, value, weight, _size(made) if form == "group_size" else 1.0)
    return kind.wrap(out.astype(x.dtype, copy=False))


def treepo_segment(
    forest: Forest,
    rewards: ArrayLike,
    *,
    eta: float | None = None,
    convention: Convention | Framework = TREEPO,
    **override: Unpack[Override],
) -> Array:
    """TreePO by segments, ``A(v) = V(v) - eta^k V(parent(v))``: what a segment has gained.

    ``V`` is the mean of the children, 0 at roots, and at leaves ``sum_a n_a (r - mean_a(r)) / sum_a n_a`` over the
    prompt and the nodes ``a`` from below the root to the leaf, itself among them, with ``n_a`` leaves.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        eta: in (0, 1], weakens the parent, the more the further the leaf: ``k = depth(leaf) - depth(v) + 1``. None: 1.
            Where leaves below ``v`` differ in depth the code gives the rollouts of a shared segment different numbers;
            this is their mean.
        convention: what the rollout of a prompt with no other gets in place of ``r - mean(r)``, 0, and what NaN does.
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0. Without ``eta`` advantages sum
        to the leaf's ``V`` along a path.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; an
            ``eta`` outside (0, 1].

    The code whitens the result over the tokens of the batch, takes all segments for equally long, and reads an ``eta``
    of 0 or less (its default, -1) as none.

    Source: the ``progress`` estimator of multimodal-art-projection/TreePO, executed, with ``eta`` and without, where it
    agrees.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> treepo_segment(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [0.0, 0.0833, -0.25, 0.4167, -0.4167]
    """
    who = "treepo_segment"
    made = as_forest(who, forest)
    weaker = None if eta is None else real(who, "eta", eta, high=1.0, above=0.0)
    rules = resolve(who, who, convention, override)
    x, kind = leaf_rewards(who, made, rewards, propagate=rules.nan == "propagate")
    value = over_prompt(who, made, x.astype(np.float64, copy=False), rules)
    value = up(made, _less_subtrees(made, value, made.leaf_counts, _size(made)), how="mean_of_children")
    value[made.roots] = 0.0
    above = parent(made, value)
    if weaker is not None:
        above *= _decay(made, weaker)
    with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
        out = value - above
    out[made.roots] = 0.0
    return kind.wrap(out.astype(x.dtype, copy=False))


def treepo_spo(
    forest: Forest,
    rewards: ArrayLike,
    *,
    convention: Convention | Framework = TREEPO,
    **override: Unpack[Override],
) -> Array:
    """What TreePO's code calls SPO: ``A(v) = z(v) - z(parent(v))`` with ``z(v) = (V(v) - mean_c(V(c))) / std_c(V(c))``.

    ``V`` is the reward at leaves and the mean of the children above, ``c`` are the siblings; ``z(root) = 0``. It
    subtracts the parent's standing among *its* siblings, where :func:`spo` subtracts the parent's value. Trees of one
    prompt are apart here; the code would take their first steps for siblings, as it does if they have one root.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        convention: ddof, eps and what only children and equal siblings get for ``z``. Default ``conventions.TREEPO``:
            population standard deviation and no eps; an only child keeps ``V``.
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0; siblings whose standard
        deviation is at most 1e-8 have ``z = 0``. Along a path advantages sum to ``z`` of the leaf.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; only
            children or equal siblings where a policy says raise.

    Source: ``compute_spo_advantage`` of multimodal-art-projection/TreePO (arXiv 2508.17445), executed, where it agrees.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> treepo_spo(forest, [0.0, 1.0, 0.0]).tolist()
    [0.0, 1.0, -1.0, 0.0, -2.0]
    """
    who = "treepo_spo"
    made = as_forest(who, forest)
    rules = resolve(who, who, convention, override)
    x, kind = leaf_rewards(who, made, rewards, propagate=rules.nan == "propagate")
    value = up(made, x.astype(np.float64, copy=False), how="mean_of_children")
    z = among_siblings(who, made, value, rules)
    if rules.zero_spread == "zero":
        # Without an eps, siblings that differ in their last bit would be 1 and -1.
        flat = (segment_std(value, made.siblings, ddof=0) <= 1e-8) & (made.siblings.counts > 1)
        z[gather(flat, made.siblings)] = 0.0
    z[made.roots] = 0.0
    with np.errstate(invalid="ignore"):
        out = z - parent(made, z)
    out[made.roots] = 0.0
    return kind.wrap(out.astype(x.dtype, copy=False))


def _less_subtrees(forest: Forest, value: Floats, weights: NDArray[np.generic], prompt: Floats | float) -> Floats:
    """The mean of ``r - V(a)`` over the nodes ``a`` of a rollout's path, one a rollout; the root is the prompt.

    ``value`` is :func:`over_prompt`, 0 for the prompt itself, and is overwritten; ``prompt`` are the weights of roots.
    """
    w = weights.astype(np.float64)
    w[forest.roots] = prompt
    at = value[forest.leaves]  # before the prompt, which a leaf may be
    value[forest.roots] = 0.0
    with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
        return np.asarray(at - down(forest, value, how="mean", weights=w)[forest.leaves])


def _size(forest: Forest) -> Floats:
    """Number of rollouts of the prompt of each tree."""
    return np.asarray(gather(segment_sum(forest.leaf_counts[forest.roots], forest.groups), forest.groups))


def _decay(forest: Forest, eta: float) -> Floats:
    """The mean of ``eta^(depth(leaf) - depth(v) + 1)`` over the leaves below, as a log-mean-exp: no power vanishes."""
    log = math.log(eta)
    mean = up(forest, forest.depth[forest.leaves] * log, how="leaf_logmeanexp", beta=1.0)
    return np.asarray(np.exp(mean - (forest.depth - 1) * log))
