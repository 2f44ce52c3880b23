"""Passes up a forest: from rollouts to nodes.

Values of siblings are compared by passing ``forest.siblings`` as the groups of any other primitive: the spread of the
children of a node is ``segment_std(values, forest.siblings)``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, floats, number
from rollmath.forest import Forest, as_forest

if TYPE_CHECKING:
    from numpy.typing import NDArray

How = Literal[
    "mean_of_children",
    "leaf_mean",
    "sum",
    "max",
    "min",
    "any",
    "all",
    "logmeanexp_of_children",
    "leaf_logmeanexp",
]
_SOFT = ("logmeanexp_of_children", "leaf_logmeanexp")
_HOWS = ("mean_of_children", "leaf_mean", "sum", "max", "min", "any", "all", *_SOFT)


class NodeWeights(NamedTuple):
    """One sum a node over the leaves below; see :func:`leaf_to_node_weights`."""

    total: Array
    positive: Array
    negative: Array


def up(
    forest: Forest,
    leaf_values: ArrayLike,
    *,
    how: How,
    beta: float | None = None,
    weights: ArrayLike | None = None,
    empty: float = math.nan,
) -> Array:
    """One value a node from one a rollout; a leaf has its rollout's value.

    Two means differ where branches have different numbers of leaves: ``V(v) = sum_c V(c) / b`` over the ``b`` children,
    where every branch counts the same, and the mean over the leaves below, where every rollout does.

    Args:
        forest: a :class:`~rollmath.Forest`.
        leaf_values: ``[n_leaves]``, in the order of ``forest.leaves``.
        how: - ``"mean_of_children"``, ``"leaf_mean"``: the two means.
            - ``"sum"``, ``"max"``, ``"min"``: over the leaves below. (``forest.leaf_counts`` counts them.)
            - ``"any"``, ``"all"``: whether some or all leaves below are not 0.
            - ``"logmeanexp_of_children"``, ``"leaf_logmeanexp"``: ``beta log(mean(exp(V / beta)))`` of the children or
              of the leaves below. Taken of the leaves, it is the optimal value of a policy that is kept near to the
              sampling one by a KL penalty of weight ``beta``.
        beta: temperature of the last two, at least 0: near to 0 they are the maximum, at infinity the mean. (That of
            :func:`segment_logmeanexp` is the inverse.)
        weights: ``[n_nodes]``, finite and not negative: the weight of a node among its siblings; those of roots mean
            nothing. Children count with them: ``sum_c w_c V(c) / sum_c w_c``, and so the exponentials; for ``"sum"``,
            ``sum_c w_c S(c)``. Where leaves are averaged, a leaf counts with the product of the weights between it and
            the node. A weight of 0 takes a node with all that is below out, whatever it holds, for all ``how``.
        empty: what a node gets below which nothing is left; its parent leaves it out. For ``"any"`` and ``"all"`` NaN,
            the default, stands for what Python says of nothing: False and True.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``leaf_values``; bool for ``"any"`` and ``"all"``.
        Accumulated in float64 in an order that depends on the values alone, so renumbering nodes or rollouts changes no
        bit. Means of equal values are exactly that value. NaN spreads to all ancestors.

    Raises:
        ValueError: wrong length; an unknown ``how``; a weight that is negative or not finite; ``beta`` missing,
            negative, or given where it is not used; NaN for ``"any"`` and ``"all"``.

    >>> from rollmath import Forest
    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> up(forest, [0.0, 1.0, 0.0], how="mean_of_children").tolist()
    [0.25, 0.5, 0.0, 1.0, 0.0]
    >>> up(forest, [0.0, 1.0, 0.0], how="mean_of_children", weights=[1, 1, 0, 3, 1]).tolist()
    [0.75, 0.75, 0.0, 1.0, 0.0]
    >>> up(forest, [0.0, 1.0, 0.0], how="any").tolist()
    [True, True, False, True, False]
    >>> up(forest, [0.0, 1.0, 0.0], how="leaf_logmeanexp", beta=0.5).round(4).tolist()
    [0.5705, 0.7169, 0.0, 1.0, 0.0]
    """
    made = as_forest("up", forest)
    choice("up", "how", how, _HOWS)
    x, kind = floats("up", "leaf_values", leaf_values, length=made.n_leaves, why="forest.n_leaves")
    temperature = _temperature(how, beta)
    by_node = None if weights is None else _node_weights(made, weights)
    nothing = number("up", "empty", empty)
    truth = how in ("any", "all")
    if truth:
        if (bad := np.isnan(x)).any():
            fix = "take such rollouts out with forest.prune(keep)"
            msg = f"up(): 'leaf_values' must not be NaN with how={how!r}, got NaN at index {bad.argmax()}; {fix}"
            raise ValueError(msg)
        nothing = float(how == "all") if math.isnan(nothing) else nothing
    out = _core.forest_up("up", "leaf_values", made._preorder, x, how, temperature, by_node, nothing)
    return kind.wrap(out != 0 if truth else out)


def _temperature(how: str, beta: float | None) -> float:
    if how not in _SOFT:
        if beta is not None:
            msg = f"up(): 'beta' goes with how='logmeanexp_of_children' or 'leaf_logmeanexp', got how={how!r}"
            raise ValueError(msg)
        return 0.0
    if beta is None:
        msg = f"up(): how={how!r} needs 'beta', its temperature: near 0 the maximum, at infinity the mean"
        raise ValueError(msg)
    return number("up", "beta", beta)


def _node_weights(forest: Forest, weights: Any) -> NDArray[np.float64]:
    x, _ = floats("up", "weights", weights, length=forest.n_nodes, why="forest.n_nodes")
    return x.astype(np.float64, copy=False)


def leaf_to_node_weights(forest: Forest, weights: ArrayLike, advantages: ArrayLike) -> NodeWeights:
    """What the tokens of a node need so that training them once is training them in each rollout that shares them.

    For each node, over the leaves ``l`` below: ``sum w_l``, ``sum w_l max(A_l, 0)`` and ``sum w_l min(A_l, 0)``. A loss
    that is linear in the advantage needs the net sum alone; a clipped one treats positive and negative advantages
    differently, so that ``ratio * net`` is wrong where rollouts disagree, and the two parts taken apart are exact.

    Args:
        forest: a :class:`~rollmath.Forest`.
        weights: weight of each rollout in the loss (1 / number of rollouts, say), ``[n_leaves]``.
        advantages: ``[n_leaves]``.

    Returns:
        :class:`NodeWeights` ``(total, positive, negative)``, each ``[n_nodes]`` by node id, in the kind and float type
        of ``advantages``. NaN spreads to all ancestors.

    Raises:
        ValueError: wrong length.

    >>> from rollmath import Forest
    >>> forest = Forest.from_parents([-1, 0, 1, 1])
    >>> out = leaf_to_node_weights(forest, [0.5, 0.5], [1.0, -3.0])
    >>> [column.tolist() for column in out]
    [[1.0, 1.0, 0.5, 0.5], [0.5, 0.5, 0.5, 0.0], [-1.5, -1.5, 0.0, -1.5]]
    """
    who = "leaf_to_node_weights"
    made = as_forest(who, forest)
    w, _ = floats(who, "weights", weights, length=made.n_leaves, why="forest.n_leaves")
    a, kind = floats(who, "advantages", advantages, length=made.n_leaves, why="forest.n_leaves")
    wide = w.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):  # 0 times infinity
        parts = (wide, wide * np.maximum(a, 0.0), wide * np.minimum(a, 0.0))
    sums = [_core.forest_up(who, "weights", made._preorder, part, "sum") for part in parts]
    return NodeWeights(*(kind.wrap(one.astype(a.dtype, copy=False)) for one in sums))
