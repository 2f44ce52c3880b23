"""Passes down a forest: from nodes to those below."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, number
from rollmath.forest import Forest, as_forest


def down(
    forest: Forest,
    x: ArrayLike,
    *,
    how: Literal["sum", "mean", "max", "min", "last"],
    weights: ArrayLike | None = None,
) -> Array:
    """One value a node from those on its path from the root, both ends included.

    With the path ``root = u_0, ..., u_d = v``: ``sum_k x(u_k)``, ``sum_k x(u_k) / (d + 1)``, ``max_k x(u_k)``,
    ``min_k x(u_k)``, or the last ``x(u_k)`` that is not NaN: a value is passed on to all nodes that have none.

    Args:
        forest: a :class:`~rollmath.Forest`.
        x: ``[n_nodes]``, by node id.
        how: ``"sum"``, ``"mean"``, ``"max"``, ``"min"`` or ``"last"``.
        weights: ``[n_nodes]``, finite and not negative, for ``"sum"``, which is ``sum_k w_k x(u_k)``, and ``"mean"``,
            that over ``sum_k w_k`` and NaN where this is 0. A node of weight 0 is left out, whatever it holds.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``x``, accumulated in float64 from the root on. The mean of equal
        values is exactly that value. NaN spreads to all nodes below, but for ``"last"``, which gives NaN where the
        whole path is NaN.

    Raises:
        ValueError: wrong length, an unknown ``how``, weights with another one or that are negative or not finite.

    >>> from rollmath import Forest
    >>> forest = Forest.from_parents([-1, 0, 0, 1])
    >>> down(forest, [1.0, 2.0, 3.0, 4.0], how="sum").tolist()
    [1.0, 3.0, 4.0, 7.0]
    >>> down(forest, [1.0, float("nan"), 3.0, float("nan")], how="last").tolist()
    [1.0, 1.0, 3.0, 1.0]
    """
    made = as_forest("down", forest)
    choice("down", "how", how, ("sum", "mean", "max", "min", "last"))
    values, kind = floats("down", "x", x, length=made.n_nodes, why="forest.n_nodes")
    if weights is None:
        return kind.wrap(_core.forest_down("down", "x", made._preorder, values, how))
    if how not in {"sum", "mean"}:
        msg = f"down(): 'weights' go with how='sum' or 'mean', got how={how!r}"
        raise ValueError(msg)
    w = floats("down", "weights", weights, length=made.n_nodes, why="forest.n_nodes")[0].astype(np.float64, copy=False)
    return kind.wrap(_core.forest_down("down", "x", made._preorder, values, how, w))


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


def root(forest: Forest, x: ArrayLike) -> Array:
    """The value of the root of each node's tree: ``x[forest.roots[forest.tree]]``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        x: ``[n_nodes]``, by node id.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``x``.

    Raises:
        ValueError: wrong length.

    >>> from rollmath import Forest
    >>> root(Forest.from_parents([-1, 0, 0, -1]), [1.0, 2.0, 3.0, 4.0]).tolist()
    [1.0, 1.0, 1.0, 4.0]
    """
    made = as_forest("root", forest)
    values, kind = floats("root", "x", x, length=made.n_nodes, why="forest.n_nodes")
    return kind.wrap(_core.forest_root("root", "x", made._preorder, values))
