"""The policy that a search with PUCT tends to, in closed form but for one number a family."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rollmath._arrays import Array, ArrayLike
from rollmath._checks import real, rows
from rollmath.forest import Forest, as_forest
from rollmath.groups import Groups
from rollmath.ops import gather, segment_max, segment_sum
from rollmath.tree._common import finite_at, visit_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Steps of the solver at most; about ten are needed.
_MOST = 100


def regularized_policy(
    forest: Forest,
    values: ArrayLike,
    visits: ArrayLike,
    priors: ArrayLike,
    *,
    c: float = 1.0,
    lam: float | None = None,
) -> Array:
    """Search as regularised policy optimisation: ``pi(v) = lam P(v) / (alpha - Q(v))``, ``sum_siblings(pi) = 1``.

    ``pi`` maximises ``sum_v pi(v) Q(v) - lam KL(P, pi)`` over the children of a node, and the visits of a PUCT search
    follow it; ``lam = c sqrt(N) / (b + N)``, with ``N`` the visits of all ``b`` siblings. To act on, to train on, or to
    search by.

    Args:
        forest: a :class:`~rollmath.Forest`.
        values: ``Q``, ``[n_nodes]``.
        visits: whole numbers, ``[n_nodes]``; those of roots do not matter.
        priors: ``P``, probability of each node among its siblings, ``[n_nodes]``. Not normalised: priors that sum to
            ``s`` act like a ``lam`` that is ``s`` times as large.
        c: weight of the prior, as in PUCT.
        lam: instead of the formula, this number for all nodes.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``values``, summing to 1 among siblings; an only child gets 1,
        roots get 0. A prior of 0 gives exactly 0. Siblings without any visits get their prior, since their values say
        nothing yet. Where ``lam`` is 0 otherwise (``c = 0``), the best siblings share by their priors. ``alpha`` is
        solved for as its distance from the best value, so that no difference of large numbers is taken; what is left is
        rounding, about 1e-16 of the whole.

    Raises:
        ValueError: wrong lengths; visits that are no whole numbers of at least 0; values or priors that are not finite;
            priors that are negative, or 0 for all siblings; ``c`` or ``lam`` negative.
        TypeError: wrong dtype or rank.

    Source: Grill et al. 2020, arXiv 2007.12509, equation 7 and its ``lam``; paper known from secondary description.

    >>> forest = Forest.from_parents([-1, 0, 0, 0])
    >>> regularized_policy(forest, [0.5, 0.5, 1.0, 0.0], [6, 3, 1, 2], [1.0, 0.5, 0.3, 0.2]).round(6).tolist()
    [0.0, 0.22234, 0.728711, 0.048949]
    """
    who = "regularized_policy"
    made = as_forest(who, forest)
    weight = real(who, "c", c, low=0.0)
    q, back = rows(who, "values", values, made.n_nodes, "forest.n_nodes")
    n = visit_counts(who, made, visits)
    p = rows(who, "priors", priors, made.n_nodes, "forest.n_nodes")[0]
    below, families = made.parents >= 0, made.siblings
    finite_at(who, "values", q, used=below)
    finite_at(who, "priors", p, used=below, least=0.0)
    q, p = np.where(below, q, 0.0), np.where(below, p, 1.0)
    total = np.asarray(segment_sum(p, families))
    if len(bad := np.flatnonzero(total == 0.0)):
        above = made.parents[families.first[bad[0]]]
        msg = f"{who}(): 'priors' must not be 0 for all siblings, as they are below node {above}"
        raise ValueError(msg)

    seen = np.asarray(segment_sum(n, families))
    heat = weight * np.sqrt(seen) / (families.counts + seen)
    if lam is not None:
        heat = np.full(families.n_groups, real(who, "lam", lam, low=0.0))
    best = gather(segment_max(np.where(p > 0.0, q, -np.inf), families), families)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gap = np.maximum(best - q, 0.0) / gather(heat, families)
    gap[(best <= q) | (gather(seen, families) == 0.0)] = 0.0
    u = _solve(p, gap, families, total)
    out = p / (u[families.index] + gap)
    out /= gather(segment_sum(out, families), families)
    out[made.roots] = 0.0
    return back(out)


def _solve(
    p: NDArray[np.float64], gap: NDArray[np.float64], families: Groups, total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``u`` of each family with ``sum p / (u + gap) = 1``, ``(alpha - max Q) / lam`` in other words.

    The reciprocal of the sum is increasing and concave in ``u``: Newton's steps from the left end never pass the root,
    but for rounding, which the bracket catches.
    """
    # Once in the order of values within each family, sums take no notice of how nodes are numbered.
    order = np.lexsort((p, gap, families.index))
    p, gap, starts = p[order], gap[order], families.offsets[:-1]
    if not len(p):
        return total
    low, high = np.maximum.reduceat(np.where(p > 0.0, p - gap, 0.0), starts), total
    u, rounding = low, 3e-16 * (1.0 + np.log2(families.counts))
    for _ in range(_MOST):
        below = np.repeat(u, families.counts) + gap
        share = p / below
        s = np.add.reduceat(share, starts)
        with np.errstate(over="ignore", invalid="ignore"):
            step = u + s * (s - 1.0) / np.add.reduceat(share / below, starts)
        low, high = np.where(s >= 1.0, u, low), np.where(s <= 1.0, u, high)
        moved = np.where((step >= low) & (step <= high), step, low + (high - low) / 2.0)
        done = (np.abs(s - 1.0) <= rounding) | (np.abs(moved - u) <= 2.0 * np.spacing(u))
        u = np.where(done, u, moved)
        if done.all():
            break
    return u
