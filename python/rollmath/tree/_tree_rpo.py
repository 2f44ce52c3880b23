"""TreeRPO: each step standardised among its siblings."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.ops import up
from rollmath.tree._common import leaf_rewards
from rollmath.tree._siblings import among_siblings


def tree_rpo(
    forest: Forest,
    rewards: ArrayLike,
    *,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """TreeRPO, a reconstruction: ``A(v) = (V(v) - mean_c(V(c))) / (std_c(V(c)) + eps)`` over siblings ``c``.

    ``V`` is the reward at leaves and the mean of the children above: each step is a GRPO group of its own.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        convention: ddof, eps and what only children and equal siblings get. The paper's standard deviation is not known
            to us; the default is GRPO's of this library, sample standard deviation plus 1e-6. ``ddof=0, eps=1e-8`` is
            :func:`spo` with ``edge="normalized"``.
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0, only children what
        ``singleton`` says (0), equal siblings exactly 0. Siblings sum to 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; only
            children or equal siblings where a policy says raise.

    Source: TreeRPO, arXiv 2506.05183, from secondary descriptions. No code with trees is public: the repository that
    the paper names has none. ddof, eps and whether the spread is corrected for values that are not 0 or 1 are
    unverified.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> tree_rpo(forest, [0.0, 1.0, 0.0]).round(4).tolist()
    [0.0, 0.7071, -0.7071, 0.7071, -0.7071]
    """
    made = as_forest("tree_rpo", forest)
    rules = resolve("tree_rpo", "tree_rpo", convention, override)
    x, kind = leaf_rewards("tree_rpo", made, rewards, propagate=rules.nan == "propagate")
    value = up(made, x.astype(np.float64, copy=False), how="mean_of_children")
    return kind.wrap(among_siblings("tree_rpo", made, value, rules).astype(x.dtype, copy=False))
