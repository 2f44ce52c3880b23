"""Steps.graph: nodes, edges and counts against a dictionary, whatever the order of the rows."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps

KEY = st.sampled_from("abc")
ROW = st.tuples(KEY, st.sampled_from("xy"), KEY)
# Two tasks with the same texts; trajectories 0, 1, ... of 1 to 5 steps each.
TABLES = st.lists(st.tuples(st.sampled_from("pq"), st.lists(ROW, min_size=1, max_size=5)), min_size=1, max_size=5)


def rows_of(table, given_next):
    rows = []
    for i, (task, steps) in enumerate(table):
        for t, (s, a, n) in enumerate(steps):
            rows.append({"task": task, "trajectory": i, "state": s, "action": a, "step": t})
            if given_next:
                rows[-1]["next_state"] = n
    return rows


def steps_of(rows):
    def column(name):
        return [r[name] for r in rows]

    after = column("next_state") if "next_state" in rows[0] else None
    return Steps(
        column("trajectory"),
        column("state"),
        column("action"),
        groups=column("task"),
        step=column("step"),
        next_state=after,
    )


def names_of(graph, steps, rows, terminal):
    """Name of each node, from the rows that are there or lead there."""
    names = {}
    for i, row in enumerate(rows):
        names[int(graph.node_of_row[i])] = (row["task"], "state", row["state"])
    for i, row in enumerate(rows):
        v = int(graph.next_of_row[i])
        if graph.ends[v]:
            names[v] = (row["task"], "end", terminal[row["trajectory"]])
        else:
            names.setdefault(v, (row["task"], "state", row.get("next_state")))
    assert sorted(names) == list(range(graph.n_nodes))
    assert len(set(names.values())) == graph.n_nodes
    return names


@given(TABLES, st.booleans(), st.booleans(), st.data())
def test_against_the_oracle(oracle, table, given_next, action, data):
    rows = rows_of(table, given_next)
    n = len(table)
    marks = st.lists(st.booleans(), min_size=n, max_size=n)
    terminal = data.draw(st.one_of(st.none(), st.lists(st.sampled_from([0.5, -1.0]), min_size=n, max_size=n)))
    cut = data.draw(marks) if given_next else [False] * n
    steps = steps_of(rows)
    graph = steps.graph(action=action, terminal="end" if terminal is None else terminal, truncated=cut)
    names = names_of(graph, steps, rows, ["end"] * n if terminal is None else terminal)
    of_row, edges = oracle("step_graph.py", "step_graph")(rows, terminal, action, {i for i in range(n) if cut[i]})
    action_name = {int(steps.action_index[i]): r["action"] for i, r in enumerate(rows)}
    got = [
        (names[int(u)], action_name[int(a)] if action else None, names[int(v)])
        for u, a, v in zip(graph.source, graph.action, graph.target, strict=True)
    ]
    assert len(got) == graph.n_edges == len(edges)
    assert [got[e] for e in graph.edge_of_row] == of_row
    assert [edges[e] for e in got] == list(zip(graph.visits.tolist(), graph.trajectories.tolist(), strict=True))
    for u in range(graph.n_nodes):
        assert (graph.source[graph.offsets[u] : graph.offsets[u + 1]] == u).all()
        assert graph.node_groups.ids[graph.node_groups.index[u]] == names[u][0]
        left = any(e[0] == names[u] for e in edges)
        assert graph.leaves[u] == (names[u][1] == "state" and not left)
        assert graph.ends[u] == (names[u][1] == "end") == (graph.state_of_node[u] < 0)
    last = {r["trajectory"]: i for i, r in enumerate(rows)}
    for i in range(n):
        assert graph.end_of_trajectory[i] == (-1 if cut[i] else graph.next_of_row[last[i]])
    assert np.array_equal(steps.state_index, graph.state_of_node[graph.node_of_row])


@given(TABLES, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing_within_a_task(table, given_next, named, random):
    rows = rows_of(table, given_next)
    turn = list(range(len(rows)))
    random.shuffle(turn)
    a, b = steps_of(rows), steps_of([rows[i] for i in turn])
    ids = dict(zip(b.trajectory_ids, range(len(table)), strict=True))
    outcome = np.array([i % 2 for i in range(len(table))])
    if named:
        outcome = np.array(["lost", "won"], object)[outcome]
    g = a.graph(terminal=outcome)
    h = b.graph(terminal=outcome[list(ids)])
    # Tasks come as they first appear; inside each, all that the graph has is the same, but for the numbers of keys.
    for task in g.node_groups.ids:
        here = [np.flatnonzero(x.node_groups.index == x.node_groups.ids.index(task)) for x in (g, h)]
        assert len(here[0]) == len(here[1])
        place = dict(zip(here[1].tolist(), here[0].tolist(), strict=True))
        one, two = (np.isin(x.source, nodes) for x, nodes in zip((g, h), here, strict=True))
        for name in ("visits", "trajectories"):
            assert getattr(g, name)[one].tolist() == getattr(h, name)[two].tolist()
        for name in ("source", "target"):
            assert getattr(g, name)[one].tolist() == [place[v] for v in getattr(h, name)[two].tolist()]
        assert g.ends[here[0]].tolist() == h.ends[here[1]].tolist()
    for i, row in enumerate(turn):
        assert g.visits[g.edge_of_row[row]] == h.visits[h.edge_of_row[i]]
    assert [g.end_of_trajectory[t] >= 0 for t in ids] == (h.end_of_trajectory >= 0).tolist()


def test_a_graph_by_hand():
    """p goes a x b, b x won; q a x b, b y a, a x lost; r, of another task, a x won."""
    steps = Steps(list("ppqqqr"), list("ababaa"), list("xxxyxx"), groups=list("111112"))
    graph = steps.graph(terminal=[1, 0, 1])
    a, b = graph.node_of_row[:2]
    assert graph.n_nodes == 6
    assert graph.ends.tolist() == [False, False, False, True, True, True]
    lost, won, other = 3, 4, 5  # by task, then by the order of the ids
    assert graph.end_of_trajectory.tolist() == [won, lost, other]
    assert graph.next_of_row.tolist() == [b, won, b, a, lost, other]
    assert graph.visits[graph.edge_of_row].tolist() == [2, 1, 2, 1, 1, 1]
    assert graph.trajectories[graph.edge_of_row].tolist() == [2, 1, 2, 1, 1, 1]
    assert graph.node_groups.index.tolist() == [0, 0, 1, 0, 0, 1]
    assert not graph.leaves.any()
    assert repr(graph) == "StepGraph(3 states, 3 ends, 5 edges in 2 tasks)"


def test_a_trajectory_that_repeats_a_step_counts_once_as_trajectory():
    steps = Steps([0, 0, 0, 1], list("aaaa"), list("xxyx"), groups=[0] * 4)
    graph = steps.graph()
    loop, leave, quick = graph.edge_of_row[[0, 2, 3]]
    assert graph.visits[[loop, leave, quick]].tolist() == [2, 1, 1]
    assert graph.trajectories[[loop, leave, quick]].tolist() == [1, 1, 1]
    joined = steps.graph(action=False)
    assert (joined.n_edges, joined.action.tolist()) == (2, [-1, -1])
    assert joined.visits.tolist() == [2, 2]
    assert joined.trajectories.tolist() == [1, 2]


def test_a_last_row_leads_to_its_end_unless_truncated():
    steps = Steps.from_episodes([["a", "b", "won"], ["a", "c"]], [["x", "y"], ["z"]], groups=["p", "p"])
    graph = steps.graph(terminal=[1.0, 0.0])
    assert (graph.n_nodes, graph.end_of_trajectory.tolist()) == (4, [3, 2])
    graph = steps.graph(truncated=[False, True])
    assert graph.end_of_trajectory.tolist() == [3, -1]
    assert graph.leaves[graph.next_of_row[2]]
    assert repr(graph) == "StepGraph(3 states, 1 end, 3 edges in 1 task)"
    with pytest.raises(ValueError, match=r"'truncated' must be False where the state after the last step is unknown"):
        Steps([0], ["a"], groups=[0]).graph(truncated=[True])


def test_trajectories_without_steps_and_tables_without_rows():
    steps = Steps.from_lengths([0, 1, 0], ["a"], groups=["p", "p", "q"])
    graph = steps.graph(terminal=[5, 6, 7])
    assert graph.end_of_trajectory.tolist() == [-1, 1, -1]
    assert graph.node_groups.ids == ("p",)
    empty = Steps([], [], groups=[]).graph()
    assert (empty.n_nodes, empty.n_edges, empty.offsets.tolist()) == (0, 0, [0])
    assert repr(empty) == "StepGraph(0 states, 0 ends, 0 edges in 0 tasks)"
    assert Steps.from_lengths([0], [], groups=["p"]).graph().end_of_trajectory.tolist() == [-1]


def test_what_is_taken_has_no_nodes_of_what_is_not():
    steps = Steps([0, 0, 1, 2], list("abcd"), groups=list("ppqp"))
    graph = steps.take([False, True, True]).graph()
    assert graph.n_nodes == 4
    assert sorted(graph.node_groups.ids) == ["p", "q"]
    assert graph.state_of_node[graph.node_of_row].tolist() == steps.state_index[2:].tolist()


def test_it_is_immutable_and_pickles():
    graph = Steps([0, 0, 1], list("aba"), list("xyz"), groups=[0] * 3).graph()
    names = ["node_of_row", "next_of_row", "edge_of_row", "source", "target", "action", "visits", "trajectories"]
    names += ["offsets", "state_of_node", "ends", "end_of_trajectory", "leaves"]
    for name in names:
        with pytest.raises(ValueError, match="read-only"):
            getattr(graph, name)[...] = 0
    with pytest.raises(AttributeError, match="StepGraph is immutable"):
        graph.n_nodes = 3
    other = pickle.loads(pickle.dumps(graph))
    assert repr(other) == repr(graph)
    assert all(np.array_equal(getattr(other, n), getattr(graph, n)) for n in names)
    assert other.node_groups == graph.node_groups


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"action": 1}, TypeError, "'action' must be True or False, got 1"),
        ({"terminal": "won"}, ValueError, "'terminal' must be one of 'end', got 'won'"),
        ({"terminal": [1]}, ValueError, r"'terminal' must have length 2 \(= steps.n_trajectories\), got 1"),
        ({"truncated": [True]}, ValueError, r"'truncated' must have length 2 \(= steps.n_trajectories\), got 1"),
        ({"truncated": [0.5, 1.0]}, TypeError, r"'truncated' must be bool or integer \(nonzero = True\), got float64"),
    ],
)
def test_errors(options, error, text):
    with pytest.raises(error, match=r"Steps.graph\(\): " + text):
        Steps([0, 1], list("ab"), groups=[0, 0]).graph(**options)
