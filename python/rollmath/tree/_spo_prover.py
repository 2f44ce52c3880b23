"""SPO-tree with a prover: how much likelier a better policy, the best of n, gets to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, floats
from rollmath._checks import real, whole
from rollmath.forest import Forest, as_forest
from rollmath.ops import parent, up

if TYPE_CHECKING:
    from numpy.typing import NDArray


def prover_advantage(forest: Forest, rewards: ArrayLike, *, n: int = 4) -> Array:
    """``P(v) = b(V(v)) - b(V(parent(v)))``, ``b(x) = 1 - (1 - x)^n``: the advantage under the best of ``n`` samples.

    ``V`` is the reward at leaves and the mean of the children above, as in :func:`spo`; ``b`` is the chance that one of
    ``n`` samples succeeds where each does so with probability ``x``.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout in [0, 1], ``[n_leaves]``, in the order of ``forest.leaves``.
        n: samples of the prover.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0. Along a path they sum to
        ``b(reward) - b(V(root))``; with ``n=1`` they are those of :func:`spo`.

    The official code trains on the edges where ``A + P`` is not exactly 0:
    ``nonzero_edges(forest, spo(forest, rewards) + prover_advantage(forest, rewards))``.

    Raises:
        ValueError: wrong length; a reward outside [0, 1], or NaN; ``n`` less than 1.
        TypeError: wrong dtype or rank.

    Source: the provers of process advantage verifiers, arXiv 2410.08146 (not read), as SPO's official code
    (AIFrameResearch/SPO, ``extract_edges_from_tree``) has them, executed; there ``n`` is 4.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> prover_advantage(forest, [0.0, 1.0, 0.0], n=2).tolist()
    [0.0, 0.3125, -0.4375, 0.25, -0.75]
    """
    made, value, dtype, kind = _values("prover_advantage", forest, rewards)
    return kind.wrap(_prover(made, value, whole("prover_advantage", "n", n)).astype(dtype, copy=False))


def spo_pav(forest: Forest, rewards: ArrayLike, *, n: int = 4, prover: float = 5.0) -> Array:
    """``V(v) + prover P(v)``: the value of a node and its prover's advantage.

    What SPO's official code trains on with ``use_pav``. It adds the value, not the advantage ``V(v) - V(parent)``; for
    that add :func:`spo` and :func:`prover_advantage` yourself.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout in [0, 1], ``[n_leaves]``, in the order of ``forest.leaves``.
        n: samples of the prover.
        prover: weight of the prover's advantage.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots, which are no steps, get 0.

    Raises:
        ValueError: wrong length; a reward outside [0, 1], or NaN; ``n`` or ``prover`` out of range.
        TypeError: wrong dtype or rank.

    Source: AIFrameResearch/SPO, official code read (the prover's advantage was executed, the sum is one line).

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> spo_pav(forest, [0.0, 1.0, 0.0], n=2, prover=2.0).tolist()
    [0.0, 1.125, -0.875, 1.5, -1.5]
    """
    made, value, dtype, kind = _values("spo_pav", forest, rewards)
    weight = real("spo_pav", "prover", prover)
    result = value + weight * _prover(made, value, whole("spo_pav", "n", n))
    result[made.roots] = 0.0
    return kind.wrap(result.astype(dtype, copy=False))


def _values(who: str, forest: Forest, rewards: ArrayLike) -> tuple[Forest, NDArray[np.float64], np.dtype[Any], Kind]:
    """``V`` of every node, float64, of rewards that are probabilities."""
    made = as_forest(who, forest)
    x, kind = floats(who, "rewards", rewards, length=made.n_leaves, why="forest.n_leaves")
    if not (fine := (x >= 0) & (x <= 1)).all():
        i = int(np.argmin(fine))
        msg = f"{who}(): 'rewards' must be in [0, 1], the chance of success, got {x[i]:g} at index {i}"
        raise ValueError(msg)
    return made, up(made, x.astype(np.float64, copy=False), how="mean_of_children"), x.dtype, kind


def _prover(forest: Forest, value: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    # expm1 and log1p would keep digits of tiny values; 1 - (1 - x)^n is what the official code rounds to.
    best = 1.0 - (1.0 - value) ** n
    above = parent(forest, best)
    above[forest.roots] = best[forest.roots]
    result: NDArray[np.float64] = best - above
    return result
