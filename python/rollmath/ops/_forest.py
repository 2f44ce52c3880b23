"""Passes over a forest: from rollouts up to nodes, and from parents to children.

Values of siblings are compared by passing ``forest.siblings`` as the groups of any other primitive: the spread of the
children of a node is ``segment_std(values, forest.siblings)``.
"""

from __future__ import annotations

from typing import Literal

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, number
from rollmath.forest import Forest, as_forest

How = Literal["mean_of_children", "leaf_mean", "sum", "max", "min"]
_HOWS = ("mean_of_children", "leaf_mean", "sum", "max", "min")


def up(forest: Forest, leaf_values: ArrayLike, *, how: How) -> Array:
    """One value a node from one a rollout; a leaf has its rollout's value.

    Args:
        forest: a :class:`~rollmath.Forest`.
        leaf_values: ``[n_leaves]``, in the order of ``forest.leaves``.
        how: ``"mean_of_children"``: ``V(v) = sum_c V(c) / b`` over the ``b`` children, every branch counts the same.
            ``"leaf_mean"``: the mean over the leaves below, every rollout counts the same. ``"sum"``, ``"max"``,
            ``"min"``: over the leaves below. (``forest.leaf_counts`` counts them.)

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``leaf_values``; accumulated in float64 in an order that
        depends on the values alone, so renumbering nodes or rollouts changes no bit. The mean of equal values is
        exactly that value. NaN spreads to all ancestors.

    Raises:
        ValueError: wrong length, or an unknown ``how``.

    >>> from rollmath import Forest
    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> up(forest, [0.0, 1.0, 0.0], how="mean_of_children").tolist()
    [0.25, 0.5, 0.0, 1.0, 0.0]
    """
    made = as_forest("up", forest)
    choice("up", "how", how, _HOWS)
    x, kind = floats("up", "leaf_values", leaf_values, length=made.n_leaves, why="forest.n_leaves")
    return kind.wrap(_core.forest_up("up", "leaf_values", made._preorder, x, how).astype(x.dtype, copy=False))


def parent(forest: Forest, x: ArrayLike, *, root: float = 0.0) -> Array:
    """The value of each node's parent: ``x[forest.parents]``, and ``root`` for roots.

    Args:
        forest: a :class:`~rollmath.Forest`.
        x: ``[n_nodes]``, by node id.
        root: what roots get; may be NaN.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``x``.

    Raises:
        ValueError: wrong length.
        TypeError: a ``root`` that is no number.

    >>> from rollmath import Forest
    >>> parent(Forest.from_parents([-1, 0, 0, 1]), [1.0, 2.0, 3.0, 4.0]).tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    made = as_forest("parent", forest)
    above = number("parent", "root", root)
    values, kind = floats("parent", "x", x, length=made.n_nodes, why="forest.n_nodes")
    return kind.wrap(_core.forest_parent("parent", "x", made._preorder, values, above))
