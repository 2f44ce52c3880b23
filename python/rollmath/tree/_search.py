"""Scores by which a tree search chooses: UCT, PUCT, and DeepSearch's frontier."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import Back, real, rows, whole
from rollmath.forest import Forest, as_forest
from rollmath.ops import gather, parent, segment_sum
from rollmath.tree._common import finite_at, visit_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Above = Literal["parent", "siblings"]
#: What TreeRL adds to a value and to a count.
_LIFT, _EPSILON = 1e-8, 1e-10


def uct(
    forest: Forest,
    values: ArrayLike,
    visits: ArrayLike,
    *,
    c: float = math.sqrt(2.0),
    form: Literal["ucb1", "tree_rl"] = "ucb1",
    parent_visits: Above = "parent",
    unvisited: float | None = None,
) -> Array:
    """UCT, upper confidence bounds for trees: ``U(v) = Q(v) + c sqrt(ln(N) / n(v))``, ``N`` the visits of the parent.

    Args:
        forest: a :class:`~rollmath.Forest`.
        values: ``Q``, the mean value of each node so far, ``[n_nodes]``; not looked at where it is of no account.
        visits: ``n``, whole numbers, ``[n_nodes]``.
        c: weight of exploration. ``sqrt(2)`` is UCB1 for values in [0, 1]; DeepSearch has 2, TreeRL 1.
        form: ``"ucb1"``, the formula above; ``"tree_rl"``: ``(Q + 1 + 1e-8) / 2 + c sqrt(ln(N + 1) / (n + 1e-10))``,
            for values in [-1, 1].
        parent_visits: ``N`` is what ``visits`` says of the ``"parent"``, or the sum over the ``"siblings"``, the node
            among them, where the parent's own are not counted.
        unvisited: score of a node without visits. None: infinity, so that each is tried once; with ``"tree_rl"`` what
            the formula says, which is large but not infinite.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``values``. Roots, which have nothing to compete with, get 0.

    Raises:
        ValueError: wrong lengths; visits that are no whole numbers of at least 0, or of a node whose parent has none;
            a value that is used and not finite; a negative ``c``; a NaN for ``unvisited``.
        TypeError: wrong dtype or rank.

    Source: Kocsis and Szepesvári 2006 (UCT), Auer et al. 2002 (UCB1), textbook; TreeRL, arXiv 2506.11902, official code
    executed, and agrees below the root, which it gives 10,000.

    >>> forest = Forest.from_parents([-1, 0, 0, 0])
    >>> uct(forest, [0.5, 0.5, 1.0, 0.0], [6, 3, 1, 2], c=1.0).round(6).tolist()
    [0.0, 1.272822, 2.338566, 0.946509]
    """
    who = "uct"
    made = as_forest(who, forest)
    weight = real(who, "c", c, low=0.0)
    choice(who, "form", form, ("ucb1", "tree_rl"))
    lone = math.inf if unvisited is None else number(who, "unvisited", unvisited)
    if math.isnan(lone):
        msg = f"{who}(): 'unvisited' must be a number, got nan"
        raise ValueError(msg)
    q, back = rows(who, "values", values, made.n_nodes, "forest.n_nodes")
    n = visit_counts(who, made, visits)
    above = _above(who, made, n, parent_visits)
    by_formula = form == "tree_rl" and unvisited is None
    used = (made.parents >= 0) & ((n > 0) | by_formula)
    finite_at(who, "values", q, used=used)
    with np.errstate(divide="ignore", invalid="ignore"):  # nodes without visits, which get theirs below
        if form == "ucb1":
            out = q + weight * np.sqrt(np.log(above) / n)
        else:
            out = (q + 1.0 + _LIFT) / 2.0 + weight * np.sqrt(np.log(above + 1.0) / (n + _EPSILON))
    return _scores(made, np.where(used, out, lone), back)


def puct(
    forest: Forest,
    values: ArrayLike,
    visits: ArrayLike,
    priors: ArrayLike,
    *,
    c: float = 1.0,
    parent_visits: Above = "parent",
    unvisited_value: float | None = None,
) -> Array:
    """PUCT, as AlphaZero has it: ``U(v) = Q(v) + c P(v) sqrt(N) / (1 + n(v))``, ``N`` the visits of the parent.

    Args:
        forest: a :class:`~rollmath.Forest`.
        values: ``Q``, the mean value of each node so far, ``[n_nodes]``.
        visits: ``n``, whole numbers, ``[n_nodes]``.
        priors: ``P``, probability of each node among its siblings, ``[n_nodes]``, used as it is.
        c: weight of exploration.
        parent_visits: ``N`` is what ``visits`` says of the ``"parent"``, or the sum over the ``"siblings"``.
        unvisited_value: ``Q`` of a node without visits ("first play urgency"). None: what ``values`` says.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``values``; roots get 0. Below a parent without visits priors have
        no weight yet, as in the formula.

    Raises:
        ValueError: wrong lengths; visits that are no whole numbers of at least 0, or of a node whose parent has none;
            priors that are negative; values or priors that are used and not finite; a negative ``c``.
        TypeError: wrong dtype or rank.

    Source: Rosin 2011; Silver et al. 2017, textbook.

    >>> forest = Forest.from_parents([-1, 0, 0, 0])
    >>> puct(forest, [0.5, 0.5, 1.0, 0.0], [6, 3, 1, 2], [1.0, 0.5, 0.3, 0.2]).round(6).tolist()
    [0.0, 0.806186, 1.367423, 0.163299]
    """
    who = "puct"
    made = as_forest(who, forest)
    weight = real(who, "c", c, low=0.0)
    q, back = rows(who, "values", values, made.n_nodes, "forest.n_nodes")
    n = visit_counts(who, made, visits)
    p = rows(who, "priors", priors, made.n_nodes, "forest.n_nodes")[0]
    above = _above(who, made, n, parent_visits)
    below = made.parents >= 0
    if unvisited_value is not None:
        q = np.where(n > 0, q, real(who, "unvisited_value", unvisited_value))
    finite_at(who, "values", q, used=below)
    finite_at(who, "priors", p, used=below, least=0.0)
    with np.errstate(invalid="ignore"):  # of roots anything may come
        return _scores(made, q + weight * p * np.sqrt(above) / (1.0 + n), back)


def frontier_score(
    forest: Forest,
    values: ArrayLike,
    *,
    entropies: ArrayLike | None = None,
    value_weight: float = 0.4,
    entropy_weight: float = 0.0,
    depth_weight: float = 0.01,
    max_depth: int = 64,
) -> Array:
    """DeepSearch's global frontier: ``F(v) = w_q tanh(Q(parent)) + w_h H(v) + w_d sqrt(d(v) / d_max)``.

    All leaves of a tree that can be expanded compete, not the children of one node: take the largest of those.

    Args:
        forest: a :class:`~rollmath.Forest`.
        values: ``Q`` of each node, ``[n_nodes]``, such as :func:`deep_search_values`; only parents' are looked at.
        entropies: ``H``, the uncertainty of each node, ``[n_nodes]``; goes with ``entropy_weight``.
        value_weight: ``w_q``.
        entropy_weight: ``w_h``.
        depth_weight: ``w_d``.
        max_depth: ``d_max``, the depth limit of the search.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``values``; roots get 0.

    Raises:
        ValueError: wrong lengths, a value or entropy that is used and not finite, a weight that is not finite,
            ``max_depth`` below 1, ``entropy_weight`` without ``entropies`` or the reverse.
        TypeError: wrong dtype or rank.

    Source: DeepSearch, arXiv 2509.25454, with its weights; secondary description, unverified.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 2])
    >>> frontier_score(forest, [0.0, 0.5, -0.5, 1.0, -1.0]).round(5).tolist()
    [0.0, 0.00125, 0.00125, 0.18661, -0.18308]
    """
    who = "frontier_score"
    made = as_forest(who, forest)
    names = ("value_weight", "entropy_weight", "depth_weight")
    w_q, w_h, w_d = (
        real(who, name, w) for name, w in zip(names, (value_weight, entropy_weight, depth_weight), strict=True)
    )
    limit = whole(who, "max_depth", max_depth)
    q, back = rows(who, "values", values, made.n_nodes, "forest.n_nodes")
    inner = np.ones(made.n_nodes, bool)
    inner[made.leaves] = False
    finite_at(who, "values", q, used=inner)
    out = w_q * np.tanh(parent(made, np.where(inner, q, 0.0))) + w_d * np.sqrt(made.depth / limit)
    if (entropies is None) != (w_h == 0.0):
        what = "are missing" if entropies is None else "count for nothing"
        msg = f"{who}(): 'entropies' {what} with entropy_weight={w_h:g}; give both or neither"
        raise ValueError(msg)
    if entropies is not None:
        h = rows(who, "entropies", entropies, made.n_nodes, "forest.n_nodes")[0]
        finite_at(who, "entropies", h, used=made.parents >= 0)
        out += w_h * np.where(made.parents >= 0, h, 0.0)
    return _scores(made, out, back)


def _above(who: str, forest: Forest, visits: NDArray[np.float64], how: Above) -> NDArray[np.float64]:
    """``N`` of each node."""
    choice(who, "parent_visits", how, ("parent", "siblings"))
    if how == "siblings":
        return np.asarray(gather(segment_sum(visits, forest.siblings), forest.siblings))
    above = np.asarray(parent(forest, visits))
    if len(bad := np.flatnonzero((visits > 0) & (above == 0) & (forest.parents >= 0))):
        what = f"node {bad[0]} was visited, and node {forest.parents[bad[0]]} above it was not"
        msg = f"{who}(): 'visits' must include those of parents, but {what}; choose parent_visits='siblings'"
        raise ValueError(msg)
    return above


def _scores(forest: Forest, x: NDArray[np.float64], back: Back) -> Array:
    x[forest.roots] = 0.0
    return back(x)
