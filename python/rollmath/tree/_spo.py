"""SPO-tree: each branch against its siblings."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, floats
from rollmath.conventions import SPO, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.ops import parent, up
from rollmath.tree._common import leaf_rewards
from rollmath.tree._siblings import among_siblings


def spo(
    forest: Forest,
    rewards: ArrayLike,
    *,
    edge: Literal["difference", "normalized"] = "difference",
    leave_one_out: bool = False,
    convention: Convention | Framework = SPO,
    **override: Unpack[Override],
) -> Array:
    """SPO on trees, ``A(v) = V(v) - V(parent(v))``: what the step from its parent to a node has gained.

    ``V`` is the reward at leaves and the mean of the children above. Variants, over the ``b`` children ``c`` of the
    parent (``v`` among them):

    - ``edge="normalized"``: ``A(v) = (V(v) - V(parent)) / (std_c(V(c)) + eps)``
    - ``leave_one_out=True``: ``V(v) - mean_{c != v}(V(c)) = b / (b - 1) (V(v) - V(parent))`` instead of the difference,
      an unbiased baseline; with ``"normalized"`` it is divided by the same spread.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        edge: the difference itself (``"rloo"`` in the official code) or divided by the siblings' spread (``"grpo"``).
        leave_one_out: take a node out of its own baseline.
        convention: ddof, eps and what degenerate nodes get, among siblings. Default ``conventions.SPO``: population
            standard deviation plus 1e-8.
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0. An only child gets 0 from the
        difference and, where a spread or other children are needed, what ``singleton`` says (0); equal siblings get
        exactly 0. Differences telescope: along a path they sum to the reward minus ``V(root)``. Leave-one-out
        advantages of siblings sum to 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; only
            children or equal siblings where a policy says raise.

    Source: SPO-tree, arXiv 2505.23564. The formulas are those of the official code, AIFrameResearch/SPO, whose
    ``extract_edges_from_tree`` was executed and agrees for both edges; it trains on :func:`nonzero_edges` alone.
    ``leave_one_out`` is an option of ours.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> spo(forest, [0.0, 1.0, 0.0]).tolist()
    [0.0, 0.25, -0.25, 0.5, -0.5]
    >>> spo(forest, [0.0, 1.0, 0.0], leave_one_out=True).tolist()
    [0.0, 0.5, -0.5, 1.0, -1.0]
    """
    made = as_forest("spo", forest)
    choice("spo", "edge", edge, ("difference", "normalized"))
    rules = resolve("spo", "spo", convention, override)
    x, kind = leaf_rewards("spo", made, rewards, propagate=rules.nan == "propagate")

    value = up(made, x.astype(np.float64, copy=False), how="mean_of_children")
    if edge == "difference" and not leave_one_out:
        advantage = parent(made, value)
        with np.errstate(invalid="ignore"):  # infinities, under nan="propagate"
            np.subtract(value, advantage, out=advantage)
        advantage[made.roots] = 0.0
    else:
        center: Literal["mean", "loo"] = "loo" if leave_one_out else "mean"
        scale: Literal["std", "none"] = "std" if edge == "normalized" else "none"
        advantage = among_siblings("spo", made, value, rules, center=center, scale=scale)
    return kind.wrap(advantage.astype(x.dtype, copy=False))


def nonzero_edges(forest: Forest, advantages: ArrayLike) -> Array:
    """The nodes that SPO trains on: ``v`` is not a root and ``A(v) != 0``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        advantages: ``[n_nodes]``, as :func:`spo` returns them; compared with 0 exactly, so NaN is not zero.

    Returns:
        bool ``[n_nodes]``, in the kind of ``advantages``.

    Source: AIFrameResearch/SPO, the option ``only_adv_greater_than_zero``, which despite its name keeps negative
    advantages, too. It compares the sum with :func:`prover_advantage`, which for rewards in [0, 1] has the same sign.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> nonzero_edges(forest, spo(forest, [0.5, 1.0, 0.0])).tolist()
    [False, False, False, True, True]
    """
    made = as_forest("nonzero_edges", forest)
    x, kind = floats("nonzero_edges", "advantages", advantages, length=made.n_nodes, why="forest.n_nodes")
    return kind.wrap((made.parents >= 0) & (x != 0))
