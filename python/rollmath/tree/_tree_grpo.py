"""Tree-GRPO: each rollout against its prompt and against its tree."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import real
from rollmath.conventions import TREE_GRPO, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.groups import Groups
from rollmath.ops import normalize, parent, up
from rollmath.tree._common import leaf_rewards


def tree_grpo(
    forest: Forest,
    rewards: ArrayLike,
    *,
    form: Literal["sum", "nested", "inner"] = "sum",
    convention: Convention | Framework = TREE_GRPO,
    **override: Unpack[Override],
) -> Array:
    """Tree-GRPO: ``A = z_prompt(r) + z_tree(r)`` with ``z(x) = (x - mean(x)) / (std(x) + eps)``.

    One group are all rollouts of the prompt, the other all of the rollout's own tree (not its siblings).

    Args:
        forest: a :class:`~rollmath.Forest`, with several trees a group.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        form: ``"sum"`` (``adv_estimator=tree`` in the code, the paper's); ``"nested"`` ``z_tree(z_prompt(r))``
            (``tree_2norm``); ``"inner"`` ``z_tree(r)`` alone (``tree_inner``).
        convention: ddof, eps and what groups of one or without spread get. Default ``conventions.TREE_GRPO``: sample
            standard deviation plus 1e-6, a lone reward stays as it is, which for a tree of one rollout adds it to the
            advantage; ``singleton="zero"`` does not.
        **override: fields of the convention.

    Returns:
        ``[n_leaves]``, in the kind and float type of ``rewards``, for all tokens of a rollout. ``z_tree`` sums to 0
        over a tree: tokens that all rollouts of a tree share are trained by ``z_prompt`` alone when tokens are summed,
        and those behind a branch learn which side was better. A group without spread gets exactly 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; groups
            of one or without spread where a policy says raise.

    The code's fourth and fifth variant are :func:`tree_grpo_difference` and its standardisation among tokens.

    Source: Tree-GRPO, arXiv 2509.21240, the paper from its abstract. The formulas are those of the official code,
    AMAP-ML/Tree-GRPO, which was executed and agrees for ``"sum"`` and ``"nested"``, and read for ``"inner"``.

    >>> forest = Forest.from_parents([-1, -1, 0, 0, 1, 1], groups=["q", "q"])
    >>> tree_grpo(forest, [1.0, 0.0, 1.0, 1.0]).round(4).tolist()
    [1.2071, -2.2071, 0.5, 0.5]
    """
    made = as_forest("tree_grpo", forest)
    choice("tree_grpo", "form", form, ("sum", "nested", "inner"))
    rules = resolve("tree_grpo", "tree_grpo", convention, override)
    x, kind = leaf_rewards("tree_grpo", made, rewards, propagate=rules.nan == "propagate")

    def z(values: Array, groups: Groups) -> Array:
        return normalize(values, groups, convention=rules, name="rewards", who="tree_grpo")

    r = x.astype(np.float64, copy=False)
    if form == "inner":
        out = z(r, made.rollout_trees)
    else:
        out = z(r, made.rollout_groups)
        with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
            if form == "nested":
                out = z(out, made.rollout_trees)
            else:
                out += z(r, made.rollout_trees)
    return kind.wrap(out.astype(x.dtype, copy=False))


def tree_grpo_difference(forest: Forest, rewards: ArrayLike, *, margin: float = 0.1) -> Array:
    """The score of a node in Tree-GRPO's difference mode: ``(max(D(v) - margin, 0) + V(v)) / sqrt(n_v)``.

    ``D(v) = V(v) - V(parent(v))``, ``V`` the mean reward of the ``n_v`` leaves below. It is a reward, not yet an
    advantage; the paper's method does not use it. (The code also computes ``V(v) - V(root)``, and sets it to 0.)

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        margin: gains up to it count as none.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards; rewards that require grad; a ``margin`` that is not finite.

    The code writes these scores to the tokens of a rollout, but for those of its last step and the last token of every
    step, which get 0; its ``tree_per_token`` then adds the scores standardised among the tokens of the prompt and among
    those of the tree. ``forest.expand(score, per="rollout")`` has the tokens, and ``ops.normalize`` with the prompt or
    the tree of each token as its group the rest.

    Source: AMAP-ML/Tree-GRPO: ``calculate_final_score_from_root``, executed, where it agrees, and
    ``get_token_level_score_from_leaf``, read.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> tree_grpo_difference(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [0.0, 0.4007, 0.0, 1.4, 0.0]
    """
    made = as_forest("tree_grpo_difference", forest)
    least = real("tree_grpo_difference", "margin", margin)
    x, kind = leaf_rewards("tree_grpo_difference", made, rewards, propagate=None)
    value = up(made, x.astype(np.float64, copy=False), how="leaf_mean")
    gain = value - parent(made, value) - least
    out = (np.maximum(gain, 0.0) + value) / np.sqrt(made.leaf_counts)
    out[made.roots] = 0.0
    return kind.wrap(out.astype(x.dtype, copy=False))
