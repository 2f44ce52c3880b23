"""Types and errors of ops.graph_backup and ops.graph_distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rollmath import Steps, ops


def chain():
    """Two steps to a state that nobody left: three nodes, two edges."""
    return Steps([0, 0], list("ab"), groups=[0, 0], next_state=list("bc")).graph(truncated=[True])


def test_types_come_back():
    graph = chain()
    sinks = np.where(graph.leaves, 1.0, np.nan)
    kept = sinks.copy()
    for dtype, out in [("f8", "f8"), ("f4", "f4"), ("f2", "f4")]:
        values = ops.graph_backup(graph, sinks.astype(dtype), gamma=0.5)
        assert values.dtype == np.dtype(out)
        assert sorted(values.tolist()) == [0.25, 0.5, 1.0]
    assert np.array_equal(sinks, kept, equal_nan=True)
    assert ops.graph_backup(graph, [1, 2, 3]).tolist() == [1.0, 2.0, 3.0]
    mask = ~np.isnan(sinks)
    assert ops.graph_distance(graph, mask).dtype == np.float64
    assert ops.graph_distance(graph, mask.tolist(), costs=np.ones(2, "f4")).dtype == np.float32
    torch = pytest.importorskip("torch")
    values = ops.graph_backup(graph, torch.tensor(sinks, dtype=torch.bfloat16), gamma=0.5)
    assert values.dtype == torch.float32
    assert sorted(values.tolist()) == [0.25, 0.5, 1.0]
    assert ops.graph_distance(graph, torch.tensor(mask)).dtype == torch.float32
    with pytest.raises(ValueError, match="'sinks' requires grad"):
        ops.graph_backup(graph, torch.tensor(sinks, requires_grad=True))


def test_an_empty_graph():
    graph = Steps([], [], groups=[]).graph()
    for how, beta in [("mean", None), ("max", None), ("logsumexp", 3.0)]:
        assert ops.graph_backup(graph, [], how=how, beta=beta).tolist() == []
    assert ops.graph_distance(graph, []).tolist() == []


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sinks": [1.0]}, ValueError, r"'sinks' must have length 3 \(= graph.n_nodes\), got 1"),
        ({"sinks": [1.0, np.inf, 0.0]}, ValueError, "'sinks' must be finite, or NaN for no sink, got inf at index 1"),
        ({"sinks": list("abc")}, TypeError, "'sinks' must hold floats, ints or bools, got <U1"),
        ({"how": "min"}, ValueError, "'how' must be one of 'mean', 'max', 'logsumexp', got 'min'"),
        ({"gamma": 1.5}, ValueError, "'gamma' must be between 0 and 1, got 1.5"),
        ({"gamma": math.nan}, ValueError, "'gamma' must be between 0 and 1, got nan"),
        ({"edge_rewards": [1.0]}, ValueError, r"'edge_rewards' must have length 2 \(= graph.n_edges\), got 1"),
        ({"edge_rewards": [1.0, np.nan]}, ValueError, "'edge_rewards' must be finite where rows are valid, got nan"),
        (
            {"weights": [1.0, -1.0]},
            ValueError,
            "'weights' must be finite and not negative where rows are valid, got -1",
        ),
        ({"weights": [1e308, 1e308]}, ValueError, r"'weights' must have a finite sum, got 1e\+308 among them"),
        (
            {"weights": [1.0, 1.0], "how": "max"},
            ValueError,
            "'weights' must be None with how='max', which weighs no edge",
        ),
        ({"beta": 1.0}, ValueError, "'beta' must be given with how='logsumexp' and only then, got 1.0 with how='mean'"),
        ({"how": "logsumexp"}, ValueError, "'beta' must be given with how='logsumexp' and only then, got None"),
        ({"how": "logsumexp", "beta": 0}, ValueError, "'beta' must not be 0; how='mean' is the value as it goes to 0"),
        ({"how": "logsumexp", "beta": np.inf}, ValueError, "'beta' must be finite, got inf"),
        ({"unreachable": -math.inf}, ValueError, "'unreachable' must be finite, got -inf"),
        ({"unreachable": math.inf, "how": "max"}, ValueError, "'unreachable' must be finite, got inf"),
        ({"unreachable": "x"}, TypeError, "'unreachable' must be a number, got an object of type str"),
        ({"tol": -1.0}, ValueError, "'tol' must be finite and not negative, got -1.0"),
        ({"max_sweeps": 0}, ValueError, "'max_sweeps' must be at least 1, got 0"),
        ({"max_sweeps": 1.5}, TypeError, "'max_sweeps' must be a whole number"),
    ],
)
def test_errors_of_backup(options, error, text):
    graph = chain()
    options = {"sinks": [np.nan, np.nan, 1.0], **options}
    with pytest.raises(error, match=r"graph_backup\(\): " + text):
        ops.graph_backup(graph, **options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sources": [True]}, ValueError, r"'sources' must have length 3 \(= graph.n_nodes\), got 1"),
        ({"sources": None}, TypeError, "'sources' must be bool or integer, one a row, got None"),
        ({"sources": [1.0, 0.0, 0.0]}, TypeError, r"'sources' must be bool or integer \(nonzero = True\), got float64"),
        ({"costs": [1.0]}, ValueError, r"'costs' must have length 2 \(= graph.n_edges\), got 1"),
        ({"costs": [1.0, -1.0]}, ValueError, "'costs' must be finite and not negative where rows are valid, got -1"),
        ({"costs": [1.0, np.inf]}, ValueError, "'costs' must be finite and not negative where rows are valid, got inf"),
        ({"reverse": 1}, TypeError, "'reverse' must be True or False, got 1"),
        ({"unreachable": None}, TypeError, "'unreachable' must be a number, got an object of type NoneType"),
    ],
)
def test_errors_of_distance(options, error, text):
    graph = chain()
    options = {"sources": [True, False, False], **options}
    with pytest.raises(error, match=r"graph_distance\(\): " + text):
        ops.graph_distance(graph, **options)


def test_another_object_is_no_graph():
    steps = Steps([0], ["a"], groups=[0])
    for call in (ops.graph_backup, ops.graph_distance):
        with pytest.raises(
            TypeError, match=r"'graph' must be a StepGraph, as Steps.graph\(\) gives, got an object of type"
        ):
            call(steps, [1])
