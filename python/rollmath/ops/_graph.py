"""Passes over a step graph: values that flow back along its edges, and distances."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice, number
from rollmath._checks import column, flag, real, required_mask, rows, whole
from rollmath._step_graph import StepGraph, as_graph


def graph_backup(
    graph: StepGraph,
    sinks: ArrayLike,
    *,
    how: Literal["mean", "max", "logsumexp"] = "mean",
    gamma: float = 1.0,
    edge_rewards: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    beta: float | None = None,
    unreachable: float = 0.0,
    tol: float = 1e-10,
    max_sweeps: int = 10_000,
) -> Array:
    """Bellman backup: ``V(u) = backup over edges e = (u, v) of q_e``, ``q_e = r_e + gamma V(v)``; sinks are given."""
    who = "graph_backup"
    made = as_graph(who, graph)
    choice(who, "how", how, ("mean", "max", "logsumexp"))
    discount = real(who, "gamma", gamma, 0.0, 1.0)
    given, back = rows(who, "sinks", sinks, made.n_nodes, "graph.n_nodes")
    why = "graph.n_edges"
    all_edges = np.ones(made.n_edges, bool)
    r = (
        np.zeros(made.n_edges)
        if edge_rewards is None
        else column(who, "edge_rewards", edge_rewards, all_edges, why=why)[0]
    )
    if weights is None:
        w = made.visits.astype(np.float64)
    else:
        w, _ = column(who, "weights", weights, all_edges, must="finite and not negative", why=why)
    if (beta is None) == (how == "logsumexp"):
        msg = f"{who}(): 'beta' must be given for how='logsumexp' and for nothing else, got {beta} for how={how!r}"
        raise ValueError(msg)
    rest = number(who, "unreachable", unreachable)
    real(who, "tol", tol, 0.0)
    whole(who, "max_sweeps", max_sweeps)
    n, source, target = made.n_nodes, made.source, made.target
    there = w > 0
    sink = ~np.isnan(given)
    reach = sink.copy()
    while True:
        more = reach.copy()
        more[source[there & reach[target]]] = True
        if (more == reach).all():
            break
        reach = more
    v = np.where(sink, given, rest)
    free = reach & ~sink
    live = there & free[source]
    s, t, p, r = source[live], target[live], w[live], r[live]
    p = p / np.bincount(s, p, minlength=n)[s]
    if how == "mean":
        at = np.flatnonzero(free)
        place = np.full(n, -1)
        place[at] = np.arange(len(at))
        a, b = np.eye(len(at)), np.bincount(place[s], p * r, minlength=len(at))
        inner = free[t]
        np.add.at(a, (place[s[inner]], place[t[inner]]), -discount * p[inner])
        b += np.bincount(place[s[~inner]], discount * p[~inner] * v[t[~inner]], minlength=len(at))
        v[at] = np.linalg.solve(a, b)
        return back(v)
    v[free] = -np.inf if how == "max" else 0.0
    for _ in range(100_000):
        q = r + (discount * v[t] if discount else 0.0)
        new = v.copy()
        new[free] = -np.inf
        np.maximum.at(new, s, q)
        if how == "logsumexp":
            b = real(who, "beta", beta)
            top = np.full(n, -np.inf)
            np.maximum.at(top, s, b * q)
            total = np.bincount(s, p * np.exp(b * q - top[s]), minlength=n)
            new[free] = (top[free] + np.log(total[free])) / b
        if np.array_equal(new, v):
            break
        v = new
    return back(v)


def graph_distance(
    graph: StepGraph,
    sources: ArrayLike,
    *,
    costs: ArrayLike | None = None,
    reverse: bool = True,
    unreachable: float = math.inf,
) -> Array:
    """Shortest distance to the nearest of ``sources``, ``d(u) = min over edges e = (u, v) of c_e + d(v)``."""
    from rollmath._checks import required_mask

    who = "graph_distance"
    made = as_graph(who, graph)
    seen = required_mask(who, "sources", sources, made.n_nodes, "graph.n_nodes")
    flag(who, "reverse", reverse)
    c = np.ones(made.n_edges)
    if costs is not None:
        c, _ = column(
            who, "costs", costs, np.ones(made.n_edges, bool), must="finite and not negative", why="graph.n_edges"
        )
    d = np.where(seen, 0.0, np.inf)
    here, there = (made.source, made.target) if reverse else (made.target, made.source)
    while True:
        new = d.copy()
        np.minimum.at(new, here, c + d[there])
        if np.array_equal(new, d):
            break
        d = new
    return np.where(np.isinf(d), number(who, "unreachable", unreachable), d)
