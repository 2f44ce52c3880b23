"""ops.graph_backup and ops.graph_distance against dictionaries, on small graphs with cycles; laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rollmath import Steps, ops

HOWS = [("mean", None), ("max", None), ("logsumexp", 3.0), ("logsumexp", -2.0)]
how_and_beta = pytest.mark.parametrize(("how", "beta"), HOWS)
NODE = st.integers(0, 5)
EDGE = st.tuples(st.sampled_from("pq"), NODE, st.integers(0, 1), NODE)
EDGES = st.lists(EDGE, min_size=1, max_size=16)
VALUE = st.sampled_from([1.0, 0.0, -1.0, 0.5, 3.0])
LIMIT = {"rtol": 1e-9, "atol": 1e-9}


class Graph:
    """A graph of given edges ``(task, source, action, target)``, each a trajectory of one step that is cut off."""

    def __init__(self, edges):
        tasks, source, action, target = zip(*edges, strict=True)
        every = range(len(edges))
        steps = Steps(list(every), list(source), list(action), groups=list(tasks), next_state=list(target))
        self.graph = steps.graph(truncated=[True] * len(edges))
        self.node = {(t, v): int(self.graph.node_of_row[i]) for i, (t, v, _, _) in enumerate(edges)}
        self.node |= {(t, v): int(self.graph.next_of_row[i]) for i, (t, _, _, v) in enumerate(edges)}
        self.first = {int(e): i for i, e in reversed(list(enumerate(self.graph.edge_of_row)))}
        self.names = [(edges[i][0], edges[i][1]) for i in self.first.values()]
        self.edges = [
            {"source": edges[i][:2], "target": (edges[i][0], edges[i][3])} for i in (self.first[e] for e in self.range)
        ]

    @property
    def range(self):
        return range(self.graph.n_edges)

    def listed(self, **columns):
        """Edges as dictionaries for the oracle."""
        return [{**e, **{k: float(x[i]) for k, x in columns.items()}} for i, e in enumerate(self.edges)]

    def by_node(self, named, otherwise=math.nan):
        out = np.full(self.graph.n_nodes, otherwise)
        for name, value in named.items():
            out[self.node[name]] = value
        return out


def sinks_of(data, graph, least=0):
    some = st.dictionaries(st.sampled_from(sorted(graph.node)), VALUE, min_size=least, max_size=3)
    return data.draw(some)


# Against the oracle.


@how_and_beta
@given(EDGES, st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.data())
def test_backup_against_the_oracle(oracle, how, beta, edges, gamma, data):
    g = Graph(edges)
    sinks = sinks_of(data, g)
    rest = data.draw(st.sampled_from([0.0, -0.5]))
    got = ops.graph_backup(g.graph, g.by_node(sinks), how=how, beta=beta, gamma=gamma, unreachable=rest)
    listed = g.listed(weight=g.graph.visits, reward=np.zeros(len(g.range)))
    expected = oracle("ops/graph.py", "graph_backup")(list(g.node), listed, sinks, how, gamma, beta, rest)
    assert_allclose(got, g.by_node(expected), **LIMIT)


@how_and_beta
@given(EDGES, st.sampled_from([0.0, 0.9, 1.0]), st.data())
def test_backup_with_rewards_and_weights_against_the_oracle(oracle, how, beta, edges, gamma, data):
    g = Graph(edges)
    sinks = sinks_of(data, g, least=1)
    # Without a discount gains could be had for ever (losses, where the worst is looked for).
    values = [0.0, 0.5, -1.0, 2.0]
    if gamma == 1 and how != "mean":
        values = [0.0, 0.25, 1.0] if (beta or 1) < 0 else [0.0, -0.25, -1.0]
    n = len(g.range)
    rewards = np.array(data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n)))
    weights = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=n, max_size=n)))
    given_weights = None if how == "max" else weights
    got = ops.graph_backup(
        g.graph, g.by_node(sinks), how=how, beta=beta, gamma=gamma, edge_rewards=rewards, weights=given_weights
    )
    listed = g.listed(weight=np.ones(n) if how == "max" else weights, reward=rewards)
    expected = oracle("ops/graph.py", "graph_backup")(list(g.node), listed, sinks, how, gamma, beta)
    assert_allclose(got, g.by_node(expected), **LIMIT)


@given(EDGES, st.booleans(), st.booleans(), st.data())
def test_distance_against_the_oracle(oracle, edges, reverse, counted, data):
    g = Graph(edges)
    sources = data.draw(st.sets(st.sampled_from(sorted(g.node)), max_size=3))
    n = len(g.range)
    costs = data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0, -0.0]), min_size=n, max_size=n))
    mask = g.by_node(dict.fromkeys(sources, 1), 0).astype(bool)
    got = ops.graph_distance(g.graph, mask, costs=None if counted else costs, reverse=reverse, unreachable=99)
    listed = g.listed(cost=np.ones(n) if counted else costs)
    expected = oracle("ops/graph.py", "graph_distance")(list(g.node), listed, sources, reverse, 99.0)
    assert got.tolist() == g.by_node(expected).tolist()


# By hand.


@pytest.fixture
def g1(vectors):
    """The step graph G1 of four trajectories, whose ends are their outcomes."""
    told = vectors("structured")["G1"]
    rows = [(i, *step.split()) for i, trajectory in enumerate(told["traj"]) for step in trajectory]
    trajectory, state, action, _ = zip(*rows, strict=True)
    steps = Steps(list(trajectory), list(state), list(action), groups=[0] * len(rows))
    graph = steps.graph(terminal=told["R"])
    sinks = np.full(graph.n_nodes, np.nan)
    sinks[graph.end_of_trajectory] = told["R"]
    return told, graph, sinks, {s: int(graph.node_of_row[i]) for i, s in enumerate(state)}


@pytest.mark.parametrize(("key", "how", "gamma"), [("graft_V", "mean", 0.99), ("rewardflow_V", "max", 0.95)])
def test_values_of_a_known_graph(g1, key, how, gamma):
    told, graph, sinks, node = g1
    values = ops.graph_backup(graph, sinks, how=how, gamma=gamma)
    for state, value in told[key].items():
        assert values[node[state]] == pytest.approx(value, abs=1e-6)
    assert values[graph.end_of_trajectory].tolist() == told["R"]


def test_distances_of_a_known_graph(g1):
    _, graph, sinks, node = g1
    d = ops.graph_distance(graph, sinks == 1, unreachable=4)
    assert {s: d[v] for s, v in node.items()} == {"s0": 3, "s1": 2, "s2": 1, "s3": 2, "s4": 4}
    start = np.arange(graph.n_nodes) == node["s0"]
    d = ops.graph_distance(graph, start, reverse=False)
    assert {s: d[v] for s, v in node.items()} == {"s0": 0, "s1": 1, "s2": 2, "s3": 1, "s4": 3}


def test_a_cycle_by_hand():
    """u leads to v and to a sink of 1, v back to u and to one of 0."""
    g = Graph([("p", 0, 0, 1), ("p", 0, 0, 8), ("p", 1, 0, 0), ("p", 1, 0, 9)])
    sinks = g.by_node({("p", 8): 1.0, ("p", 9): 0.0})

    def values(**options):
        v = ops.graph_backup(g.graph, sinks, **options)
        return [v[g.node["p", 0]], v[g.node["p", 1]]]

    # V(u) = g (V(v) + 1) / 2, V(v) = g V(u) / 2.
    assert_allclose(values(gamma=1.0), [2 / 3, 1 / 3], rtol=1e-15)
    assert_allclose(values(gamma=0.5), [4 / 15, 1 / 15], rtol=1e-15)
    assert values(gamma=0.5, how="max") == [0.5, 0.25]
    assert values(gamma=1.0, how="max") == [1.0, 1.0]
    # W = exp(beta V) is linear without a discount: W(u) = (W(v) + e) / 2, W(v) = (W(u) + 1) / 2.
    w = [(1 + 2 * math.e) / 3, (2 + math.e) / 3]
    assert_allclose(values(gamma=1.0, how="logsumexp", beta=1.0), np.log(w), rtol=1e-12)


def test_losses_that_need_not_come():
    """Going round for ever is worth 0 with a discount; without one a walk has to end."""
    g = Graph([("p", 0, 0, 0), ("p", 0, 1, 9)])
    sinks = g.by_node({("p", 9): -1.0})
    at = g.node["p", 0]
    assert ops.graph_backup(g.graph, sinks, how="max", gamma=0.9)[at] == 0.0
    assert ops.graph_backup(g.graph, sinks, how="max", gamma=1.0)[at] == -1.0
    stay = np.where(g.graph.target == at, -1.0, 0.0)
    assert ops.graph_backup(g.graph, sinks, how="max", gamma=0.5, edge_rewards=stay)[at] == -0.5
    assert ops.graph_backup(g.graph, sinks, how="max", gamma=0.5, edge_rewards=-stay)[at] == 2.0


def test_what_no_sink_can_be_reached_from():
    # 0 <-> 1 and 1 -> 9, a sink; 1 -> 2 -> 2, a trap; 3 is a dead end below 4; another task has no sink at all.
    g = Graph(
        [("p", *e) for e in [(0, 0, 1), (1, 0, 0), (1, 0, 9), (1, 0, 2), (2, 0, 2), (4, 0, 3)]] + [("q", 0, 0, 1)]
    )
    sinks = g.by_node({("p", 9): 1.0})
    lost = [g.node[name] for name in [("p", 2), ("p", 3), ("p", 4), ("q", 0), ("q", 1)]]
    values = ops.graph_backup(g.graph, sinks, unreachable=-2.0)
    assert values[lost].tolist() == [-2.0] * 5
    # V(1) = (V(0) + 1 - 2) / 3 and V(0) = V(1): a trap counts as a sink of that value.
    assert values[[g.node["p", 0], g.node["p", 1]]].tolist() == [-0.5, -0.5]
    best = ops.graph_backup(g.graph, g.by_node({("p", 9): -1.0}), how="max", unreachable=-math.inf)
    assert best[[g.node["p", 0], g.node["p", 1]]].tolist() == [-1.0, -1.0]
    assert best[lost].tolist() == [-math.inf] * 5
    assert ops.graph_backup(g.graph, sinks * np.nan).tolist() == [0.0] * g.graph.n_nodes


def test_edges_of_weight_zero_are_none():
    g = Graph([("p", 0, 0, 1), ("p", 0, 0, 2), ("p", 1, 0, 0)])
    sinks = g.by_node({("p", 2): 1.0})
    weights = np.where(g.graph.target == g.node["p", 2], 0.0, 1.0)
    values = ops.graph_backup(g.graph, sinks, weights=weights, unreachable=7.0)
    assert [values[g.node["p", v]] for v in range(3)] == [7.0, 7.0, 1.0]


def test_what_leaves_a_sink_does_not_count():
    g = Graph([("p", 0, 0, 1), ("p", 1, 0, 2)])
    values = ops.graph_backup(g.graph, g.by_node({("p", 1): 5.0, ("p", 2): 1.0}), gamma=0.5)
    assert [values[g.node["p", v]] for v in range(3)] == [2.5, 5.0, 1.0]


# Laws.


@how_and_beta
@given(EDGES, st.data())
def test_values_solve_their_equation(how, beta, edges, data):
    g = Graph(edges)
    sinks = g.by_node(sinks_of(data, g))
    n = len(g.range)
    rewards = np.array(data.draw(st.lists(st.sampled_from([0.0, 0.3, -1.0]), min_size=n, max_size=n)))
    values = ops.graph_backup(g.graph, sinks, how=how, beta=beta, gamma=0.9, edge_rewards=rewards, unreachable=-7.0)
    q = rewards + 0.9 * values[g.graph.target]
    for u in np.flatnonzero(np.isnan(sinks) & (values != -7.0)):
        own = slice(g.graph.offsets[u], g.graph.offsets[u + 1])
        w = g.graph.visits[own] / g.graph.visits[own].sum()
        expected = {"mean": (w * q[own]).sum(), "max": q[own].max()}
        expected["logsumexp"] = np.log((w * np.exp((beta or 1) * q[own])).sum()) / (beta or 1)
        assert values[u] == pytest.approx(expected[how], rel=1e-9, abs=1e-9)


@how_and_beta
@given(EDGES, st.data())
def test_shift_scale_and_bounds(how, beta, edges, data):
    g = Graph(edges)
    sinks = g.by_node(sinks_of(data, g, least=1))
    values = ops.graph_backup(g.graph, sinks, how=how, beta=beta, unreachable=0.25)
    moved = ops.graph_backup(g.graph, sinks + 2.0, how=how, beta=beta, unreachable=2.25)
    assert_allclose(moved, values + 2.0, rtol=1e-10)
    scaled = ops.graph_backup(g.graph, sinks * 4.0, how=how, beta=beta and beta / 4.0, unreachable=1.0)
    assert_allclose(scaled, values * 4.0, rtol=1e-10)
    ends = np.append(sinks[~np.isnan(sinks)], 0.25)
    assert (values >= ends.min() - 1e-12).all()
    assert (values <= ends.max() + 1e-12).all()


@given(EDGES, st.data())
def test_soft_values_lie_between_the_mean_and_the_maximum(edges, data):
    g = Graph(edges)
    sinks = g.by_node(sinks_of(data, g, least=1))
    mean, best = (ops.graph_backup(g.graph, sinks, how=how, gamma=0.9) for how in ("mean", "max"))
    soft = [ops.graph_backup(g.graph, sinks, how="logsumexp", beta=b, gamma=0.9) for b in (1e-9, 0.5, 5.0, 500.0)]
    assert_allclose(soft[0], mean, atol=1e-8)
    for low, high in zip(soft, [*soft[1:], best], strict=True):
        assert (low <= high + 1e-10).all()
    least = ops.graph_backup(g.graph, sinks, how="logsumexp", beta=-500.0, gamma=0.9)
    assert (least <= mean + 1e-10).all()


@given(EDGES, st.data())
def test_the_maximum_is_the_discounted_distance(edges, data):
    g = Graph(edges)
    won = g.by_node(dict.fromkeys(data.draw(st.sets(st.sampled_from(sorted(g.node)), min_size=1, max_size=2)), 1.0))
    values = ops.graph_backup(g.graph, won, how="max", gamma=0.5)
    assert values.tolist() == (0.5 ** ops.graph_distance(g.graph, won == 1)).tolist()


@how_and_beta
@given(EDGES, st.sampled_from([0.3, 1 / 3, -0.7]))
def test_one_value_everywhere_stays_as_it_is(how, beta, edges, value):
    g = Graph([*edges, ("p", 0, 0, 9), ("q", 0, 0, 9)])
    sinks = g.by_node({("p", 9): value, ("q", 9): value})
    values = ops.graph_backup(g.graph, sinks, how=how, beta=beta, unreachable=value)
    assert values.tolist() == [value] * g.graph.n_nodes


@how_and_beta
@given(EDGES, st.data(), st.randoms(use_true_random=False))
def test_other_tasks_and_the_order_of_rows_change_no_bit(how, beta, edges, data, random):
    g = Graph(edges)
    sinks = sinks_of(data, g)

    def run(rows):
        h = Graph(rows)
        own = {k: x for k, x in sinks.items() if k in h.node}
        values = ops.graph_backup(h.graph, h.by_node(own), how=how, beta=beta, gamma=0.9)
        d = ops.graph_distance(h.graph, ~np.isnan(h.by_node(own)))
        return {name: (values[v], d[v]) for name, v in h.node.items()}

    expected = run(edges)
    turned = list(edges)
    random.shuffle(turned)
    assert run(turned) == expected
    for task in {e[0] for e in edges}:
        alone = run([e for e in turned if e[0] == task])
        assert alone == {k: x for k, x in expected.items() if k[0] == task}
