"""DeepSearch: values that success takes over, and advantages from them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import Back, real, rows
from rollmath.forest import Forest, as_forest
from rollmath.ops import root, up
from rollmath.tree._common import finite_at, leaf_rewards

if TYPE_CHECKING:
    from numpy.typing import NDArray

Failures = Literal["all", "most_confident"]


def deep_search_values(
    forest: Forest,
    rewards: ArrayLike,
    *,
    floor: float = 0.1,
    failures: Failures = "all",
    entropies: ArrayLike | None = None,
) -> Array:
    """What DeepSearch's backup leaves at nodes: ``q(v) = sum_l max(i / d_l, floor) r_l``, of successes if there is one.

    ``l`` are the rollouts below ``v`` with ``r_l > 0``, or all of them where there is none; ``i`` is the depth of
    ``v`` and ``d_l`` that of the leaf. The backup is told as a rule for one rollout after another, along its path:
    ``q + g r`` if ``q`` and ``r`` do not differ in sign, else ``g r`` if ``r`` is positive, else nothing, with
    ``g = max(i / d, floor)``. A first success overwrites what failures have left, and no failure counts from then on.
    So the order of rollouts makes no difference, and this is the sum in closed form.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``; DeepSearch has 1 and -1.
        floor: least weight of a rollout, in [0, 1].
        failures: ``"all"`` are backed up; ``"most_confident"``: of a tree without success only the rollout of lowest
            entropy (the first of equals), and nodes off its path keep 0.
        entropies: mean entropy of the tokens of each rollout, ``[n_leaves]``, which goes with ``"most_confident"``.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Leaves have their reward, backed up or not.

    Raises:
        ValueError: wrong lengths, rewards or entropies that are not finite, ``floor`` out of range, entropies without
            ``failures="most_confident"`` or the reverse.
        TypeError: wrong dtype or rank.

    Source: DeepSearch, arXiv 2509.25454; secondary description, unverified. That the order drops out is our derivation.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> deep_search_values(forest, [-1.0, 1.0, -1.0]).tolist()
    [0.1, 0.5, -1.0, 1.0, -1.0]
    """
    x, q, back = _values("deep_search_values", forest, rewards, floor, failures, entropies)
    q[forest.leaves] = x
    return back(q)


def deep_search(
    forest: Forest,
    rewards: ArrayLike,
    *,
    floor: float = 0.1,
    temperature: float = 1.0,
    bound: float = 1.0,
    failures: Failures = "all",
    entropies: ArrayLike | None = None,
) -> Array:
    """DeepSearch's advantages: ``A(v) = bound tanh(q(v) / temperature) - mean_l r_l``, at leaves ``r - mean_l r_l``.

    ``q`` are the :func:`deep_search_values`, and the mean is over all leaves of the tree.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``; DeepSearch has 1 and -1.
        floor: least weight of a rollout in the backup, in [0, 1].
        temperature: of the soft clip, positive.
        bound: of the soft clip, not negative: no inner value is larger.
        failures: see :func:`deep_search_values`.
        entropies: likewise.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0. Rollouts off the path that
        ``"most_confident"`` picks have a value of 0 at inner nodes.

    Raises:
        ValueError: as :func:`deep_search_values`, and a ``temperature`` or ``bound`` out of range.
        TypeError: wrong dtype or rank.

    Source: DeepSearch, arXiv 2509.25454; secondary description, unverified.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> deep_search(forest, [-1.0, 1.0, -1.0]).round(4).tolist()
    [0.0, 0.7955, -0.6667, 1.3333, -0.6667]
    """
    who = "deep_search"
    heat, most = real(who, "temperature", temperature, above=0.0), real(who, "bound", bound, low=0.0)
    x, q, back = _values(who, forest, rewards, floor, failures, entropies)
    q = most * np.tanh(q / heat)
    q[forest.leaves] = x
    q -= root(forest, up(forest, x, how="leaf_mean"))
    q[forest.roots] = 0.0
    return back(q)


def _values(
    who: str, forest: Forest, rewards: ArrayLike, floor: float, failures: Failures, entropies: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], Back]:
    """Rewards, and the values of inner nodes."""
    made = as_forest(who, forest)
    least = real(who, "floor", floor, low=0.0, high=1.0)
    choice(who, "failures", failures, ("all", "most_confident"))
    given, kind = leaf_rewards(who, made, rewards, propagate=None)
    x = given.astype(np.float64, copy=False)
    if (entropies is None) != (failures == "all"):
        fix = "they decide between failures" if entropies is None else "choose failures='most_confident'"
        msg = f"{who}(): 'entropies' go with failures='most_confident', got failures={failures!r}; {fix}"
        raise ValueError(msg)
    backed = x if entropies is None else np.where(_confident(who, made, x, entropies), x, 0.0)
    weights = _Weights(made, least)
    wins, losses = weights.total(np.maximum(backed, 0.0)), weights.total(np.minimum(backed, 0.0))
    return x, np.where(up(made, backed, how="max") > 0.0, wins, losses), Back(kind, given.dtype)


def _confident(who: str, forest: Forest, x: NDArray[np.float64], entropies: ArrayLike) -> NDArray[np.bool_]:
    """Rollouts of trees with a success, and of each other tree the one of lowest entropy."""
    h = rows(who, "entropies", entropies, forest.n_leaves, "forest.n_leaves")[0]
    finite_at(who, "entropies", h, "rollout")
    tree = forest.tree[forest.leaves]
    order = np.lexsort((h, tree))  # stable, so the first of equals
    best: NDArray[np.float64] = root(forest, up(forest, x, how="max"))
    out = best[forest.leaves] > 0.0
    out[order[np.unique(tree[order], return_index=True)[1]]] = True
    return out


class _Weights:
    """``max(i / d_l, floor)`` for the leaves ``l`` below each node, ``i`` the node's depth and ``d_l`` the leaf's."""

    def __init__(self, forest: Forest, floor: float) -> None:
        self.forest, self.floor = forest, floor
        self.i = forest.depth.astype(np.float64)
        self.d = np.maximum(self.i[forest.leaves], 1.0)
        #: Depths at which the floor ceases to be the weight of any leaf below, and of every one.
        self.far, self.near = (floor * up(forest, self.d, how=how) for how in ("max", "min"))

    def total(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of ``x``, one a rollout, below each node, with these weights."""
        by_depth = up(self.forest, x / self.d, how="sum")
        out: NDArray[np.float64] = self.i * by_depth
        at_floor = self.i < self.far
        if not at_floor.any():
            return out
        mixed = at_floor & (self.near < self.i)
        out[at_floor] = (self.floor * up(self.forest, x, how="sum"))[at_floor]
        if mixed.any():
            # What counts with the floor is no more than the total: nothing is lost by taking it out and adding it.
            i, floored = self.i[mixed], [self.below_floor(y)[mixed] for y in (x / self.d, x)]
            out[mixed] = i * (by_depth[mixed] - floored[0]) + self.floor * floored[1]
        return out

    def below_floor(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of ``x`` over the leaves below each node for which the floor is the weight there."""
        forest, joints = self._joined
        padded = np.concatenate([np.zeros(self.forest.n_leaves), x[joints]])
        return np.asarray(up(forest, padded, how="sum"))[: self.forest.n_nodes]

    @cached_property
    def _joined(self) -> tuple[Forest, NDArray[np.int64]]:
        """The forest with each leaf once more, as a child of its lowest ancestor for which its weight is the floor.

        And the leaves that have one. In a sum over the leaves of that forest they count from there on upwards.
        """
        forest = self.forest
        depth = np.ceil(self.floor * self.d).astype(np.int64) - 1
        joints = np.flatnonzero((depth >= 0) & (forest.depth[forest.leaves] > 0))
        # The ancestor at a depth is the last node of that depth in preorder, up to the leaf.
        order, n = forest.order, forest.n_nodes
        place = np.empty(n, np.int64)
        place[order] = np.arange(n)
        by_depth = order[np.argsort(forest.depth[order], kind="stable")]
        keys = forest.depth[by_depth] * n + place[by_depth]
        at = np.searchsorted(keys, depth[joints] * n + place[forest.leaves[joints]], side="right") - 1
        return Forest.from_parents(np.concatenate([forest.parents, by_depth[at]])), joints
