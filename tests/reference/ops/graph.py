"""Passes over graphs that are lists of edges: repeated until nothing changes, over dictionaries."""

import math


def _reach(nodes, edges, sinks):
    """Nodes from which edges of some weight lead to a sink."""
    found = set(sinks)
    while True:
        more = {e["source"] for e in edges if e["weight"] > 0 and e["target"] in found} - found
        if not more:
            return found & set(nodes)
        found |= more


def graph_backup(nodes, edges, sinks, how, gamma, beta=None, unreachable=0.0, sweeps=100_000):
    """Edges are dictionaries with source, target, weight and reward; sinks a dictionary of values."""
    reach = _reach(nodes, edges, sinks)
    value = {u: sinks.get(u, unreachable) for u in nodes}
    free = [u for u in nodes if u in reach and u not in sinks]
    out = {u: [e for e in edges if e["source"] == u and (e["weight"] > 0 or how == "max")] for u in free}
    for u in free:
        # A walk that has not ended has no value yet; means may start anywhere.
        value[u] = -math.inf if how == "max" else 0.0

    def q(e):
        after = value[e["target"]]
        return e["reward"] + (after if math.isinf(after) else gamma * after)

    def once(u):
        if how == "max":
            return max(q(e) for e in out[u])
        total = math.fsum(e["weight"] for e in out[u])
        if how == "mean":
            return math.fsum(e["weight"] * q(e) for e in out[u]) / total
        top = max(beta * q(e) for e in out[u])
        return (top + math.log(math.fsum(e["weight"] * math.exp(beta * q(e) - top) for e in out[u]) / total)) / beta

    before = None
    for _ in range(sweeps):
        new = {u: once(u) for u in free}
        change = max((abs(new[u] - value[u]) for u in free if new[u] != value[u]), default=0.0)
        # The last bit may go to and fro for ever.
        if change < 1e-16 or (change < 1e-14 and new == before):
            return value | new
        before = {u: value[u] for u in free}
        value.update(new)
    raise AssertionError("no convergence")


def graph_distance(nodes, edges, sources, reverse=True, unreachable=math.inf):
    """Floyd and Warshall: between all pairs; then the nearest of the sources. Edges have a cost."""
    d = {(u, v): 0.0 if u == v else math.inf for u in nodes for v in nodes}
    for e in edges:
        d[e["source"], e["target"]] = min(d[e["source"], e["target"]], e["cost"])
    for k in nodes:
        for u in nodes:
            for v in nodes:
                d[u, v] = min(d[u, v], d[u, k] + d[k, v])
    near = {u: min((d[(u, s) if reverse else (s, u)] for s in sources), default=math.inf) for u in nodes}
    return {u: unreachable if math.isinf(x) else x for u, x in near.items()}
