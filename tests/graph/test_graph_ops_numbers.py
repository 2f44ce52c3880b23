"""ops.graph_backup and ops.graph_distance: precision, size, what cannot be solved, threads."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import Steps, ops

HOWS = [("mean", None), ("max", None), ("logsumexp", 3.0)]


def edges(source, target):
    """A graph of given edges, each a trajectory of one step that is cut off."""
    every = np.arange(len(source))
    return Steps(every, source, groups=0 * every, next_state=target).graph(truncated=every >= 0)


def only(graph, nodes, values):
    """Sinks of some nodes, NaN elsewhere."""
    sinks = np.full(graph.n_nodes, np.nan)
    sinks[nodes] = values
    return sinks


def test_rare_exits_cost_no_precision():
    # The states are tied so tightly that one less the share of staying would have few digits or none.
    graph = edges([0, 1, 2, 0, 1], [1, 2, 0, 8, 9])
    sinks = only(graph, graph.next_of_row[3:], [1.0, 0.0])
    weights = np.where(np.isnan(sinks[graph.target]), 1.0, 1e-17)
    values = ops.graph_backup(graph, sinks, weights=weights)
    assert_allclose(values[np.isnan(sinks)], [0.5] * 3, rtol=1e-14)


def random_graph(n, degree, seed=0):
    rng = np.random.default_rng(seed)
    source, target = np.repeat(np.arange(n), degree), rng.integers(0, n, n * degree)
    graph = edges(source, target)
    return graph, only(graph, rng.permutation(graph.n_nodes)[:7], rng.normal(size=7))


def solved(graph, sinks, gamma):
    """The linear system, by NumPy; every node of these graphs reaches a sink."""
    free = np.isnan(sinks)
    p = np.zeros((graph.n_nodes, graph.n_nodes))
    np.add.at(p, (graph.source, graph.target), graph.visits.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    b = gamma * p[np.ix_(free, ~free)] @ sinks[~free]
    out = sinks.copy()
    out[free] = np.linalg.solve(np.eye(free.sum()) - gamma * p[np.ix_(free, free)], b)
    return out


@pytest.mark.parametrize("gamma", [0.9, 1.0])
@pytest.mark.parametrize(("n", "degree", "limit"), [(300, 5, 1e-11), (1000, 60, 1e-8)])
def test_large_cycles(n, degree, limit, gamma):
    graph, sinks = random_graph(n, degree)
    expected = solved(graph, sinks, gamma)
    assert_allclose(ops.graph_backup(graph, sinks, gamma=gamma), expected, rtol=limit, atol=limit)
    cold = ops.graph_backup(graph, sinks, how="logsumexp", beta=1e-9, gamma=gamma)
    assert_allclose(cold, expected, rtol=1e-7, atol=1e-7)


def joined(n, degree, share):
    """Two random graphs that lead to each other, and each to a sink of its own, with a small share."""
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(2 * n), degree)
    target = source // n * n + rng.integers(0, n, len(source))
    source, target = np.r_[source, 0, n, 1, n + 1], np.r_[target, n, 0, 2 * n, 2 * n + 1]
    graph = edges(source, target)
    weights = np.ones(graph.n_edges)
    weights[graph.edge_of_row[-4:]] = share * np.array([1, 1, 3, 3])
    sinks = only(graph, graph.next_of_row[-2:], [1.0, 0.0])
    return graph, sinks, weights, [graph.node_of_row[:-4][source[:-4] // n == k] for k in (0, 1)]


def test_halves_that_are_hardly_joined():
    graph, sinks, weights, halves = joined(300, 300, 1e-12)
    mean = ops.graph_backup(graph, sinks, weights=weights)
    soft = ops.graph_backup(graph, sinks, weights=weights, how="logsumexp", beta=1.0)
    # Where shares are so small each half has one value, between those of its sink and of the other half; and so have
    # the means of exp(V).
    for half in halves:
        assert np.ptp(mean[half]) < 1e-9
        assert 0.1 < mean[half[0]] < 0.9
        assert_allclose(np.exp(soft[half]), 1 + mean[half[0]] * (math.e - 1), rtol=1e-9)
    large, few, light, _ = joined(2500, 40, 1e-6)
    with pytest.raises(ValueError, match=r"'max_sweeps' must be larger .* in cycles have not settled, got 50"):
        ops.graph_backup(large, few, weights=light, max_sweeps=50)


def test_a_core_that_is_too_large_for_a_matrix():
    graph, sinks = random_graph(4000, 30)
    for gamma in (0.9, 1.0):
        v = ops.graph_backup(graph, sinks, gamma=gamma)
        led = np.bincount(graph.source, graph.visits * v[graph.target], graph.n_nodes)
        led /= np.maximum(np.bincount(graph.source, graph.visits, graph.n_nodes), 1)
        assert_allclose(v, np.where(np.isnan(sinks), gamma * led, sinks), rtol=1e-9, atol=1e-11)


def test_what_has_not_settled_is_an_error():
    graph, sinks = random_graph(4000, 30)
    text = (
        r"graph_backup\(\): 'max_sweeps' must be larger \(or 'tol' looser, or 'gamma' smaller\): the values of \d+ "
        r"states in cycles have not settled, got 2"
    )
    with pytest.raises(ValueError, match=text):
        ops.graph_backup(graph, sinks, max_sweeps=2)
    small, few = random_graph(30, 3)
    with pytest.raises(ValueError, match="have not settled, got 1"):
        ops.graph_backup(small, few, how="logsumexp", beta=50.0, max_sweeps=1)


def test_a_way_out_that_is_less_likely_than_a_float_can_tell():
    graph = edges([0, 1, 0, 1], [1, 0, 8, 9])
    sinks = only(graph, graph.next_of_row[2:], [1.0, 0.0])
    weights = np.where(np.isnan(sinks[graph.target]), 1.0, 1e-300)
    with pytest.raises(ValueError, match="'weights' must be less unequal: 2 states in cycles are left with a share"):
        ops.graph_backup(graph, sinks, weights=weights)
    # Where all that leaves has one value there is nothing to tell.
    alike = only(graph, graph.next_of_row[2:], 0.3)
    assert (ops.graph_backup(graph, alike, weights=weights) == 0.3).all()


def test_a_value_that_hardly_any_walk_brings():
    # From the other end each step up is 9 times as unlikely as one down; the exact value is of the size of 1e-48.
    n = 100
    at = np.arange(1, n)
    graph = edges(np.r_[at, at], np.r_[at + 1, at - 1])
    sinks = only(graph, graph.next_of_row[[n - 2, n - 1]], [1.0, 0.0])
    weights = np.ones(graph.n_edges)
    weights[graph.edge_of_row[n - 1 :]] = 9.0
    values = ops.graph_backup(graph, sinks, weights=weights)[graph.node_of_row[: n - 1]]
    assert_allclose(values, [(9**v - 1) / (9**n - 1) for v in range(1, n)], rtol=1e-12)


def test_values_near_the_largest_float():
    graph = edges([0, 0], [1, 2])
    values = ops.graph_backup(graph, only(graph, graph.next_of_row, [1.5e308, -1.5e308]))
    assert values[graph.node_of_row[0]] == 0.0


@pytest.mark.parametrize("gamma", [0.9999, 1.0])
def test_the_best_way_may_be_long(gamma):
    # Back and forth along a line, out anywhere for -1 and at its end for nothing.
    n = 20_000
    at = np.arange(n)
    graph = edges(np.r_[at[:-1], at[1:], at], np.r_[at[1:], at[:-1], n + at])
    sinks = only(graph, graph.next_of_row[-n:], np.r_[np.full(n - 1, -1.0), 0.0])
    cost = np.full(graph.n_edges, -1e-5)
    values = ops.graph_backup(graph, sinks, how="max", gamma=gamma, edge_rewards=cost)[graph.node_of_row[-n:]]
    far = n - at if gamma == 1 else (1 - gamma ** (n - at)) / (1 - gamma)
    assert_allclose(values, -1e-5 * far, rtol=1e-9)
    assert (values > -1).all()
    sharp = ops.graph_backup(graph, sinks, how="logsumexp", beta=1e5, gamma=gamma)[graph.node_of_row[-n:]]
    assert sharp[0] > -1.1e-5 * n


def test_a_circle_that_gains_nothing_but_for_rounding():
    n, at = 1000, np.arange(1000)
    reward = np.r_[np.full(n - 1, -0.1), 0.1 * (n - 1)]
    graph = edges(np.r_[at, (at + 1) % n, 5], np.r_[(at + 1) % n, at, n])
    rewards = np.zeros(graph.n_edges)
    rewards[graph.edge_of_row] = np.r_[reward, -reward, 0.0]
    sinks = only(graph, graph.next_of_row[-1], 1.0)
    values = ops.graph_backup(graph, sinks, how="max", edge_rewards=rewards)
    assert_allclose(values[graph.node_of_row[:n]], 1 - 0.1 * (5 - at), atol=1e-9)


def test_a_gain_in_a_circle_without_discount_is_an_error():
    graph = edges([0, 1, 1], [1, 0, 9])
    sinks = only(graph, graph.next_of_row[2], 1.0)
    text = r"'edge_rewards' must have no cycle of positive sum with how='max' and gamma=1, whose states have no largest"
    with pytest.raises(ValueError, match=text):
        ops.graph_backup(graph, sinks, how="max", edge_rewards=[0.5, 0.5, 0.0])
    with pytest.raises(ValueError, match="have not settled"):
        ops.graph_backup(graph, sinks, how="logsumexp", beta=1.0, edge_rewards=[3.0, 3.0, 0.0])


@pytest.mark.parametrize(("how", "beta"), HOWS)
def test_long_chains_and_hubs_take_no_time(how, beta):
    n = 50_000
    every = np.zeros(n, int)
    forth = Steps(every, np.arange(n), groups=every).graph()
    sinks = np.full(n + 1, np.nan)
    sinks[-1] = 1.0
    begin = time.perf_counter()
    values = ops.graph_backup(forth, sinks, how=how, beta=beta)
    assert (values == 1.0).all()
    # A hub that leads to all others, and all others back.
    graph = edges(np.r_[every, 1 + np.arange(n)], np.r_[1 + np.arange(n), every])
    sinks = only(graph, graph.next_of_row[3], 1.0)
    values = ops.graph_backup(graph, sinks, how=how, beta=beta, gamma=0.5)
    assert time.perf_counter() - begin < 10
    assert values[graph.node_of_row[0]] > 0


@pytest.mark.parametrize(("how", "beta"), HOWS)
def test_threads_change_no_bit(same_bits, how, beta):
    rng = np.random.default_rng(0)
    n = 30_000
    steps = Steps(np.arange(n) // 10, rng.integers(0, 9, n), rng.integers(0, 2, n), groups=np.arange(n) // 60)
    graph = steps.graph(terminal=rng.integers(0, 2, steps.n_trajectories))
    sinks = np.full(graph.n_nodes, np.nan)
    sinks[graph.end_of_trajectory] = rng.normal(size=steps.n_trajectories)
    before = rm.num_threads()
    try:
        found = []
        for threads in (1, 2, 4):
            rm.set_num_threads(threads)
            values = ops.graph_backup(graph, sinks, how=how, beta=beta, gamma=0.9)
            d = ops.graph_distance(graph, sinks > 0, costs=np.full(graph.n_edges, 0.1))
            found.append((values, d))
    finally:
        rm.set_num_threads(before)
    for values, d in found[1:]:
        same_bits(values, found[0][0])
        same_bits(d, found[0][1])
