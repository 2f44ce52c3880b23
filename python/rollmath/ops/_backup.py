"""Discounted values on a forest, from the leaves to the roots."""

from __future__ import annotations

from typing import Literal

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats
from rollmath._checks import real
from rollmath.forest import Forest, as_forest


def backup(forest: Forest, x: ArrayLike, *, gamma: float, how: Literal["max", "mean"] = "max") -> Array:
    """What a node gives, and the discounted best of what follows it: ``q(v) = x(v) + gamma max_c q(c)``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        x: ``[n_nodes]``, by node id: at leaves their value, above what a node gives on the way.
        gamma: discount of a step, in [0, 1].
        how: ``"max"`` over the children ``c``; ``"mean"``, ``q(v) = x(v) + gamma sum_c q(c) / b``.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``x``, accumulated in float64; renumbering nodes changes no bit.
        NaN spreads to all ancestors. One pass, however deep the forest is.

    Raises:
        ValueError: wrong length, ``gamma`` out of range, an unknown ``how``.

    >>> from rollmath import Forest
    >>> backup(Forest.from_parents([-1, 0, 0, 1]), [0.0, 1.0, 2.0, 4.0], gamma=0.5).tolist()
    [1.5, 3.0, 2.0, 4.0]
    """
    made = as_forest("backup", forest)
    choice("backup", "how", how, ("max", "mean"))
    discount = real("backup", "gamma", gamma, low=0.0, high=1.0)
    values, kind = floats("backup", "x", x, length=made.n_nodes, why="forest.n_nodes")
    return kind.wrap(_core.forest_backup("backup", "x", made._preorder, values, discount, how))
