"""Passes over a step graph: values that flow back along its edges, and distances."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, choice, host, number
from rollmath._checks import Back, column, flag, real, required_mask, rows, whole
from rollmath._step_graph import StepGraph, as_graph

How = Literal["mean", "max", "logsumexp"]


def graph_backup(
    graph: StepGraph,
    sinks: ArrayLike,
    *,
    how: How = "mean",
    gamma: float = 1.0,
    edge_rewards: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    beta: float | None = None,
    unreachable: float = 0.0,
    tol: float = 1e-10,
    max_sweeps: int = 10_000,
) -> Array:
    """Bellman backup on a step graph: ``V(u) = backup over edges e = (u, v) of q_e``, ``q_e = r_e + gamma V(v)``.

    Args:
        graph: a ``StepGraph``, from :meth:`rollmath.Steps.graph`.
        sinks: ``[n_nodes]``, the value of nodes that have one, ends mostly; NaN where it is to be computed. The edges
            that leave a sink do not count.
        how: ``"mean"``: ``sum_e w_e q_e / sum_e w_e``, what the steps that were taken led to. ``"max"``: ``max_e q_e``,
            the best that a walk along edges can have. ``"logsumexp"``: ``log(sum_e w_e exp(beta q_e) / sum_e w_e) /
            beta``, the soft value that is regularised towards the steps taken: the mean as ``beta`` goes to 0, the
            maximum as it grows, the minimum as it falls.
        gamma: discount of a step, in [0, 1].
        edge_rewards: ``r_e``, ``[n_edges]``; default 0.
        weights: ``w_e``, ``[n_edges]``, not negative; default ``graph.visits``. An edge of weight 0 is as good as
            none. ``how="max"`` takes none.
        beta: inverse temperature, not 0; for ``how="logsumexp"`` only.
        unreachable: value of nodes from which no edges lead to a sink, dead ends among them. As sinks of that value
            they count in the backup of others; with ``how="max"`` it may be ``-inf``, so that they do not.
        tol: what is iterated ends when a bound of the error (Newton's steps: the last one) is at most this share of
            the largest value.
        max_sweeps: and after so many iterations with an error (Newton's steps: 200 at most).

    Returns:
        ``[n_nodes]``, in the kind and float type of ``sinks``, computed in float64. Within a task neither other tasks,
        nor the order of the rows of the steps, nor threads change a bit.

        Where there are no cycles, one pass gives the values. Within cycles the mean solves their linear system by
        state reduction, which subtracts nothing, so that ``gamma=1`` and rare exits cost no precision; only where
        more than 2048 states stay tied to each other is the rest iterated (Gauss-Seidel). The maximum is exact up to
        rounding; without a discount a walk may not end, and its value is that of the best walk that does. With
        ``gamma < 1`` going round for ever is worth its discounted rewards, 0 without: no loss in a sink is worse than
        that. The soft value takes Newton's steps.

    Raises:
        TypeError: ``graph`` is no StepGraph; arrays of a wrong type or rank.
        ValueError: wrong lengths, infinite sinks, negative weights, options out of range; values that have not settled
            after ``max_sweeps``; weights so unequal that states in cycles are left with a share below 1e-250; with
            ``how="max"`` and ``gamma=1`` a cycle of edges whose rewards sum to more than 0.

    >>> import numpy as np
    >>> from rollmath import Steps
    >>> steps = Steps(list("ttuuv"), ["hall", "room", "hall", "hall", "room"], list("gogxt"), groups=[0] * 5)
    >>> graph = steps.graph(terminal=["won", "lost", "lost"])
    >>> sinks = np.full(graph.n_nodes, np.nan)
    >>> sinks[graph.end_of_trajectory] = [1.0, 0.0, 0.0]
    >>> values = graph_backup(graph, sinks, gamma=0.9)
    >>> values[graph.node_of_row].round(4).tolist()  # the agent stays in the hall once, and leaves it twice
    [0.1929, 0.45, 0.1929, 0.1929, 0.45]
    >>> graph_backup(graph, sinks, how="max", gamma=0.9)[graph.node_of_row].round(4).tolist()
    [0.81, 0.9, 0.81, 0.81, 0.9]
    """
    who, why = "graph_backup", "graph.n_edges"
    made = as_graph(who, graph)
    choice(who, "how", how, ("mean", "max", "logsumexp"))
    values, back = _sinks(who, sinks, made)
    every = np.ones(made.n_edges, bool)
    rewards = None if edge_rewards is None else column(who, "edge_rewards", edge_rewards, every, why=why)[0]
    if how == "max" and weights is not None:
        msg = f"{who}(): 'weights' must be None with how='max', which weighs no edge, got {len(weights)} of them"
        raise ValueError(msg)
    shares = None if how == "max" else made.visits.astype(np.float64)
    if weights is not None:
        shares = column(who, "weights", weights, every, must="finite and not negative", why=why)[0]
        with np.errstate(over="ignore"):
            total = shares.sum()
        if not np.isfinite(total):
            msg = f"{who}(): 'weights' must have a finite sum, got {shares.max():g} among them; scale them down"
            raise ValueError(msg)
    options = (real(who, "gamma", gamma, 0.0, 1.0), _beta(who, how, beta), _unreachable(who, how, unreachable))
    iterate = (real(who, "tol", tol, 0.0), whole(who, "max_sweeps", max_sweeps))
    return back(_core.graph_backup(who, made._arrays, values, how, options, rewards, shares, iterate))


def _sinks(who: str, sinks: ArrayLike, graph: StepGraph) -> tuple[Any, Back]:
    values, back = rows(who, "sinks", sinks, graph.n_nodes, "graph.n_nodes")
    if len(bad := np.flatnonzero(np.isinf(values))):
        msg = f"{who}(): 'sinks' must be finite, or NaN for no sink, got {values[bad[0]]:g} at index {bad[0]}"
        raise ValueError(msg)
    return values, back


def _beta(who: str, how: How, beta: float | None) -> float:
    if (beta is not None) != (how == "logsumexp"):
        msg = f"{who}(): 'beta' must be given with how='logsumexp' and only then, got {beta} with how={how!r}"
        raise ValueError(msg)
    if beta is None:
        return 0.0
    if real(who, "beta", beta) == 0:
        msg = f"{who}(): 'beta' must not be 0; how='mean' is the value as it goes to 0"
        raise ValueError(msg)
    return float(beta)


def _unreachable(who: str, how: How, unreachable: float) -> float:
    if how == "max" and number(who, "unreachable", unreachable) == -math.inf:
        return -math.inf
    return real(who, "unreachable", unreachable)


def graph_distance(
    graph: StepGraph,
    sources: ArrayLike,
    *,
    costs: ArrayLike | None = None,
    reverse: bool = True,
    unreachable: float = math.inf,
) -> Array:
    """Shortest distance to the nearest of some nodes: ``d(u) = min over edges e = (u, v) of c_e + d(v)``, 0 there.

    Args:
        graph: a ``StepGraph``, from :meth:`rollmath.Steps.graph`.
        sources: mask ``[n_nodes]`` of the nodes that distances are counted from.
        costs: ``c_e``, ``[n_edges]``, finite and not negative; default 1, so that steps are counted.
        reverse: True: from each node to the sources, along edges; False: from the sources to each node.
        unreachable: distance where there is no way; any number.

    Returns:
        ``[n_nodes]``, in the kind and float type of ``costs``; without costs float64 (NumPy) or float32 (torch).
        Breadth first, or Dijkstra's algorithm with costs: ``O(E log N)``.

    Raises:
        TypeError: ``graph`` is no StepGraph; arrays of a wrong type or rank; ``sources`` that are no mask.
        ValueError: wrong lengths, costs that are negative or not finite.

    >>> from rollmath import Steps
    >>> graph = Steps([0, 0, 0, 1], ["a", "b", "c", "a"], list("xyzt"), groups=[0] * 4).graph(terminal=["won", "lost"])
    >>> won = graph.end_of_trajectory[0]
    >>> graph_distance(graph, [n == won for n in range(graph.n_nodes)])[graph.node_of_row].tolist()
    [3.0, 2.0, 1.0, 3.0]
    """
    who = "graph_distance"
    made = as_graph(who, graph)
    seen = required_mask(who, "sources", sources, made.n_nodes, "graph.n_nodes")
    flag(who, "reverse", reverse)
    far = number(who, "unreachable", unreachable)
    kind = host(who, "sources", sources)[1]
    c, back = None, Back(kind, np.float32 if kind.is_torch else np.float64)
    if costs is not None:
        every = np.ones(made.n_edges, bool)
        c, back = column(who, "costs", costs, every, must="finite and not negative", why="graph.n_edges")
    return back(_core.graph_distance(who, made._arrays, seen.view(np.uint8), c, reverse, far))
