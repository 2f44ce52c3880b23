"""Projection onto an order: isotonic regression on any acyclic graph."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, describe, floats, host, integers, number
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ProjectionStatus(IntEnum):
    """What became of a group.

    >>> ProjectionStatus(1).name
    'SATURATED'
    """

    SOLVED = 0
    SATURATED = 1
    INFEASIBLE = 2
    UNFINISHED = 3


class Projection(NamedTuple):
    """Result of :func:`order_project`: one value a row, and a :class:`ProjectionStatus` a group (uint8)."""

    values: Array
    status: Array


def order_project(
    x: ArrayLike,
    edges: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    margin: float | ArrayLike = 0.0,
    groups: Groups | ArrayLike | None = None,
    norm: Literal["free", "ball", "sphere"] = "free",
    radius: float | ArrayLike | None = None,
    name: str = "x",
    who: str = "order_project",
) -> Projection:
    """The nearest values that are in a given order, in each group by itself.

    ``min_a |a - x|^2 / 2`` subject to ``a_i + margin_ij <= a_j`` for each edge ``(i, j)`` and, if asked, to
    ``|a| <= radius`` (``"ball"``) or ``|a| = radius`` (``"sphere"``). Without a norm this is isotonic regression on an
    acyclic graph. With one the solution is ``P(t x)``, where ``P`` is the projection without and the length of
    ``P(t x)`` never falls with ``t``: at most 1 for the ball, any positive number for the sphere, for which this is the
    global optimum although a sphere is not convex.

    Solved exactly, not by iteration to a tolerance. Where each row has at most one greater (or at most one lesser)
    neighbour, adjacent violators are pooled on trees in ``O(n log n)``. Other orders start from there and go on with
    active sets: milliseconds for thousands of rows, but perhaps minutes for 100,000 rows of one group in a dense order.

    Args:
        x: one number a row, ``[n]``, at most 1e140 in size.
        edges: rows ``(lesser, greater)``: integers ``[n_edges, 2]``, or a tuple of two arrays ``[n_edges]``. In any
            order, repeated ones allowed; an empty list for none.
        margin: by how much the greater row must be greater, one number or one an edge; not negative.
        groups: one id a row; edges stay within groups. Default: all rows are one group.
        norm: what holds for the length of a group's values.
        radius: for ``"ball"`` and ``"sphere"``, one positive number or one a group (in the order of ``groups.ids``).
            Default: the root of the group's size, which makes the mean of the squares at most, or exactly, 1.
        name: what the caller's function calls ``x``, for error messages.
        who: the caller's function, for error messages.

    Returns:
        ``values`` ``[n]``, in the kind and float type of ``x``. They are computed with twice the digits of float64 and
        rounded once, so that the order of rows and edges does not matter (with a norm, but for the last bits). Without
        a norm each group keeps its mean. A group in order, of a length that is allowed, comes back unchanged.
        ``status`` ``[n_groups]``, uint8:

        - 0 ``SOLVED``: the optimum.
        - 1 ``SATURATED``: no multiple of ``x`` reaches the sphere, because the order leaves nothing of its direction
          (``x`` all 0, say). The projection without a norm, which is exactly 0 if all margins are.
        - 2 ``INFEASIBLE``: the margins alone need a longer vector than the radius. The shortest vector in order.
        - 3 ``UNFINISHED``: gave up after some 4,000 visits a row and edge. The best so far, not in order.

    Raises:
        ValueError: edges that go in a circle, join a row with itself, leave their group or name no row; NaN or infinite
            ``x``; a bad ``margin`` or ``radius``; a ``radius`` without a norm; wrong lengths.
        TypeError: edges that are not pairs of integers.

    Source: tree form, Pardalos and Xue 1999 (Algorithmica 23); active sets, Goldfarb and Idnani 1983; the facts about
    ``P(t x)`` are our derivation, tested against all active sets of small problems. The margins and the norms are what
    :func:`rollmath.tree.staged_advantage` needs.

    >>> order_project([0.5, -0.2, 0.0, -0.3], [(0, 1), (1, 2)]).values.round(3).tolist()
    [0.1, 0.1, 0.1, -0.3]
    >>> out = order_project([1.0, 0.0, 0.0, 0.0], [(0, 1), (2, 3)], groups=["a", "a", "b", "b"], norm="sphere")
    >>> out.values.round(3).tolist(), [ProjectionStatus(s).name for s in out.status]
    ([1.0, 1.0, 0.0, 0.0], ['SOLVED', 'SATURATED'])
    """
    choice(who, "norm", norm, ("free", "ball", "sphere"))
    values, kind = floats(who, name, x)
    made = Groups(np.zeros(len(values), np.int64)) if groups is None else as_groups(who, groups, length=len(values))
    if radius is not None and norm == "free":
        msg = f"{who}(): 'radius' needs norm='ball' or norm='sphere', got norm='free'"
        raise ValueError(msg)
    pairs = _edges(who, edges)
    margins = _scalar_or_vector(who, "margin", margin)
    radii = None if radius is None else _scalar_or_vector(who, "radius", radius)
    out, status = _core.order_project(who, name, made._csr, values, pairs, margins, norm, radii)
    return Projection(kind.wrap(out.astype(values.dtype, copy=False)), kind.wrap(status))


def _edges(who: str, edges: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if isinstance(edges, tuple) and len(edges) == 2:
        lesser, _ = integers(who, "edges", edges[0])
        return lesser, integers(who, "edges", edges[1], length=len(lesser), why="len(edges[0])")[0]
    pairs, _ = host(who, "edges", edges)
    if pairs.size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        msg = f"{who}(): 'edges' must be [n_edges, 2] or a tuple of two arrays, got {describe(pairs)} of {pairs.shape}"
        raise TypeError(msg)
    return integers(who, "edges", pairs[:, 0])[0], integers(who, "edges", pairs[:, 1])[0]


def _scalar_or_vector(who: str, name: str, value: Any) -> float | NDArray[np.float64]:
    if np.ndim(value) == 0 and not hasattr(value, "dtype"):
        return number(who, name, value)
    array, _ = host(who, name, value)
    if array.ndim == 0:
        return number(who, name, array[()])
    return floats(who, name, array)[0].astype(np.float64)
