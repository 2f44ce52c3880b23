"""SPO-tree with the best of n, one edge at a time."""

import math


def _values(parents, leaf_nodes, rewards):
    reward = dict(zip([int(v) for v in leaf_nodes], [float(r) for r in rewards], strict=True))

    def value(v):
        below = [c for c, p in enumerate(parents) if p == v]
        return math.fsum(map(value, below)) / len(below) if below else reward[v]

    return [value(v) for v in range(len(parents))]


def prover_advantage(parents, leaf_nodes, rewards, n=4):
    value = _values(parents, leaf_nodes, rewards)
    # Of n tries: the first success at try k.
    best = [math.fsum(x * (1 - x) ** k for k in range(n)) for x in value]
    return [0.0 if p < 0 else best[v] - best[p] for v, p in enumerate(parents)]


def spo_pav(parents, leaf_nodes, rewards, n=4, prover=5.0):
    value = _values(parents, leaf_nodes, rewards)
    gain = prover_advantage(parents, leaf_nodes, rewards, n)
    return [0.0 if p < 0 else value[v] + prover * gain[v] for v, p in enumerate(parents)]
