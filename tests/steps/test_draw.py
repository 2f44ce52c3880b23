"""StepGraph.to_svg and StepGraph.to_networkx: nothing lost, nothing overlapping, cycles lead back."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollmath import Steps
from rollmath._step_layout import arrange, layers, spread

SVG = "{http://www.w3.org/2000/svg}"
#: G1 of the vectors: four trajectories of one task, the first and the last of which succeed.
TRAJECTORY = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
STATES = ["s0", "s1", "s2", "s0", "s1", "s3", "s0", "s1", "s2", "s4", "s0", "s3", "s2"]
ACTIONS = list("abcadeabfghkc")
TABLES = st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=6), min_size=1, max_size=6)
NASTY = ['a"b', "<b>&amp;</b>", "two\nlines\tand  spaces", "\x00\x1b\ud800", "]]>", "é漢🙂", ""]


def g1():
    return Steps(TRAJECTORY, STATES, ACTIONS, groups=["p"] * 13)


def read(picture):
    """Nodes as (label, title, box), edges as (title, line, line's attributes), and the labels of edges."""
    root = ET.fromstring(picture)
    edges, nodes, labels = root.findall(f"{SVG}g")
    boxes = []
    for node in nodes:
        title, rect, text = node
        boxes.append((text.text, title.text, {k: float(rect.get(k)) for k in ("x", "y", "width", "height")}, rect))
    lines = [(edge[0].text, edge[1].get("d"), edge[1], edge[2].get("d")) for edge in edges]
    return root, boxes, lines, [(text.text, float(text.get("x")), float(text.get("y"))) for text in labels]


def test_g1_is_drawn_as_it_is():
    steps = g1()
    graph = steps.graph(terminal=[1, 0, 0, 1])
    picture = graph.to_svg(np.arange(13.0), states=STATES, actions=ACTIONS)
    _, boxes, lines, labels = read(picture)
    assert sorted(box[0] for box in boxes) == ["end 0", "end 1", "s0", "s1", "s2", "s3", "s4"]
    assert sorted(text for text, *_ in labels) == list("abcdefghk")
    left = {box[0]: box[2]["x"] for box in boxes}
    # No cycle, so that all leads on: s1 before s3, because of d.
    assert left["s0"] < left["s1"] < left["s3"] < left["s2"] < left["s4"] < left["end 0"] == left["end 1"]
    assert not any(line.get("stroke-dasharray") for _, _, line, _ in lines)
    titles = {title.split("\n")[0]: title for title, *_ in lines}
    assert titles["a"] == "a\n3 visits of 3 trajectories\nmean advantage 3"
    assert titles["k"] == "k\n1 visit of 1 trajectory\nmean advantage 11"
    assert "advantage" not in graph.to_svg()
    width = {title[0]: float(line.get("stroke-width")) for title, _, line, _ in lines}
    assert width["k"] == 1.5 < width["b"] == 2.7 < width["a"]
    thick = {box[0]: box[3].get("stroke-width") for box in boxes}
    assert [name for name, w in thick.items() if w == "2.5"] == ["s0"]


def test_the_picture_does_not_know_the_order_of_the_rows():
    rows = np.random.default_rng(0).permutation(13)
    steps = g1()
    mixed = Steps(
        np.array(TRAJECTORY)[rows],
        np.array(STATES)[rows],
        np.array(ACTIONS)[rows],
        groups=["p"] * 13,
        step=steps.position[rows],
    )
    x = np.arange(13.0)
    pictures = [
        s.graph().to_svg(x[r], states=np.array(STATES)[r], actions=np.array(ACTIONS)[r])
        for s, r in ((steps, np.arange(13)), (mixed, rows))
    ]
    assert pictures[0] == pictures[1]


def test_colours_are_signs():
    steps = Steps([0, 0, 1, 1, 2, 2], list("abacad"), list("xyxyxy"), groups=[0] * 6)
    x = [2.0, 4.0, 2.0, -2.0, 2.0, np.nan]
    _, _, lines, _ = read(steps.graph().to_svg(x, states=list("abacad")))
    strokes = sorted(line.get("stroke") for _, _, line, _ in lines)
    assert strokes == sorted(["#629bbb"] * 3 + ["#0072b2", "#cc9162", "#000000"])
    heads = [edge[2].get("fill") for edge in ET.fromstring(steps.graph().to_svg(x)).findall(f"{SVG}g")[0]]
    assert sorted(heads) == strokes
    # All zero, or infinite, is no error.
    for x, colour in (([0.0] * 6, "#c4c4c4"), ([np.inf] * 6, "#0072b2")):
        assert {line.get("stroke") for _, _, line, _ in read(steps.graph().to_svg(x))[2]} == {colour}


@given(TABLES, st.booleans())
def test_pictures_are_tidy(table, action):
    states, actions = ([step[i] for rows in table for step in rows] for i in (0, 1))
    steps = Steps.from_lengths(list(map(len, table)), states, actions, groups=[0] * len(table))
    graph = steps.graph(action=action)
    root, boxes, lines, labels = read(graph.to_svg(np.ones(len(steps))))
    assert (len(boxes), len(lines)) == (graph.n_nodes, graph.n_edges)
    assert len(labels) == graph.n_edges * action
    x0, y0, w, h = map(float, root.get("viewBox").split())
    for _, _, box, _ in boxes:
        assert x0 <= box["x"] <= box["x"] + box["width"] <= x0 + w
        assert y0 <= box["y"] <= box["y"] + box["height"] <= y0 + h
    # No box on another, and no line through one.
    for i, (_, _, a, _) in enumerate(boxes):
        for _, _, b, _ in boxes[:i]:
            apart = a["x"] + a["width"] < b["x"] or b["x"] + b["width"] < a["x"]
            assert apart or abs(a["y"] - b["y"]) >= a["height"]
    for e, (_, path, line, head) in enumerate(lines):
        a, b = boxes[graph.source[e]][2], boxes[graph.target[e]][2]
        tip = [float(v) for v in re.match(r"M([-\d.]+) ([-\d.]+)l", head).groups()]
        assert tip[0] == pytest.approx(b["x"], abs=0.2)
        assert b["y"] <= tip[1] <= b["y"] + b["height"]
        begin = [float(v) for v in re.match(r"M([-\d.]+) ([-\d.]+)", path).groups()]
        assert begin[0] == pytest.approx(a["x"] + a["width"], abs=0.2)
        assert a["y"] <= begin[1] <= a["y"] + a["height"]
        back = b["x"] < a["x"] + a["width"]
        assert bool(line.get("stroke-dasharray")) == back
        for px, py in points(path):
            assert x0 <= px <= x0 + w
            assert y0 <= py <= y0 + h
            inside = [
                v
                for v, (_, _, c, _) in enumerate(boxes)
                if c["x"] + 1 < px < c["x"] + c["width"] - 1 and c["y"] < py < c["y"] + c["height"]
            ]
            assert not inside
    for text, x, y in labels:
        assert x0 <= x <= x + 6 * len(text) <= x0 + w
        assert y0 + 8 <= y <= y0 + h
    # A label is not on another.
    for i, (text, x, y) in enumerate(labels):
        for other, x2, y2 in labels[:i]:
            assert abs(y - y2) >= 9.9 or x + 6 * len(text) < x2 or x2 + 6 * len(other) < x


def points(path):
    """Many points of a line."""
    x = y = 0.0
    for command, numbers in re.findall(r"([MHVC])([-\d. ]*)", path):
        p = [float(v) for v in numbers.split()]
        if command == "C":
            for t in np.linspace(0, 1, 20):
                q = np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
                yield q @ [x, p[0], p[2], p[4]], q @ [y, p[1], p[3], p[5]]
            x, y = p[4:]
            continue
        x2, y2 = (p[0], y) if command == "H" else (x, p[0]) if command == "V" else p
        for t in np.linspace(0, 1, 20) if command != "M" else (1.0,):
            yield x + t * (x2 - x), y + t * (y2 - y)
        x, y = x2, y2


def test_only_cycles_lead_back():
    # 0 -> 1 -> 2 -> 1, 0 -> 2, and ends behind.
    assert layers([0, 1, 2, 0, 2], [1, 2, 1, 2, 3], [1, 0, 0, 0], [0, 0, 0, 1]) == [0, 1, 1, 2]
    assert layers([0, 1, 0, 2], [1, 2, 2, 3], [1, 0, 0, 0], [0, 0, 0, 1]) == [0, 1, 2, 3]
    assert layers([0, 0], [0, 1], [1, 0], [0, 1]) == [0, 1]
    # What no start leads to, in a cycle of its own.
    assert layers([1, 2], [2, 1], [1, 0, 0], [0, 0, 0]) == [0, 0, 0]
    assert layers([], [], [], []) == []
    n = 3000
    chain = layers(range(n - 1), range(1, n), [v == 0 for v in range(n)], [False] * n)
    assert chain == list(range(n))
    made = arrange([0, 0, 1], [1, 2, 2], [1, 0, 0], [0, 0, 1])
    assert made.routes == [[0, 1], [0, 3, 2], [1, 2]]
    assert made.columns == [[0], [1, 3], [2]] or made.columns == [[0], [3, 1], [2]]


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(1, 30)), max_size=7))
def test_spread_is_the_least_squares_solution(items):
    wanted, room = [w for w, _ in items], [r for _, r in items]
    made = np.array(spread(wanted, room))
    gaps = np.array([(a + b) / 2 for a, b in pairwise(room)])
    assert (np.diff(made) >= gaps - 1e-9).all()
    # Optimal for a convex problem: moving all that touch, up or down as far as they may, gains nothing.
    if len(items) > 1:
        best = ((made - wanted) ** 2).sum()
        for i in range(len(items)):
            for j in range(i + 1, len(items) + 1):
                for by in (-1e-4, 1e-4):
                    moved = made.copy()
                    moved[i:j] += by
                    if (np.diff(moved) >= gaps - 1e-9).all():
                        assert ((moved - wanted) ** 2).sum() >= best - 1e-9


@pytest.mark.parametrize("label", NASTY)
def test_text_is_escaped(label):
    steps = Steps([0], ["s"], ["a"], groups=[0])
    _, boxes, lines, labels = read(steps.graph().to_svg(states=[label], actions=[label]))
    clean = ["".join(c if c.isprintable() else "\ufffd" for c in " ".join(part.split())) for part in label.split("\n")]
    one = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(label.split()))
    shown = [box for box in boxes if box[0] != "end"]
    assert (shown[0][0] or "") == one
    assert (shown[0][1] or "") == "\n".join(clean)
    assert lines[0][0].startswith("\n".join(clean))
    assert labels == ([] if not one else labels[:1])
    assert not one or labels[0][0] == one


def test_labels_are_cut_and_messages_read():
    talk = [
        {"role": "user", "content": "Where is the key to the yard?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [
            {"id": "1", "function": {"name": "look", "arguments": '{"at": "hall"}'}},
            {"id": "2", "function": {"name": "look", "arguments": {"at": "yard"}}},
        ]},
        {"role": "tool", "name": "look", "content": [{"type": "text", "text": "here"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "take", "arguments": "{}"}]},
    ]  # fmt: skip
    steps = Steps.from_messages([talk], groups=["t"])
    report = steps.report
    _, boxes, lines, labels = read(steps.graph().to_svg(states=report.observations, actions=report.actions))
    texts = {box[1]: box[0] for box in boxes}
    assert texts == {
        "user: Where is the key to the yard?": "user: Where is the key …",
        'look: [{"type": "text", "text": "here"}]': 'look: [{"type": "text",…',
        "end": "end",
    }
    assert sorted(title.split("\n")[0] for title, *_ in lines) == [
        'Let me see. look({"at": "hall"}) look({"at": "yard"})',
        "take({})",
    ]
    assert sorted(text for text, *_ in labels) == ['Let me see. look({"at":…', "take({})"]
    short = read(steps.graph().to_svg(states=report.observations, max_label=3))
    assert sorted(box[0] for box in short[1]) == ["end", "lo…", "us…"]
    assert [text for text, *_ in short[3]] == ["ac…", "ac…"]


def test_labels_come_as_any_column():
    class Column:
        def to_pylist(self):
            return list(STATES)

    graph = g1().graph()
    expected = graph.to_svg(states=STATES)
    for column in (tuple(STATES), np.array(STATES), iter(STATES), Column()):
        assert graph.to_svg(states=column) == expected


def test_one_task_of_several():
    steps = Steps([0, 0, 1, 2], list("abac"), groups=["p", "q", "q"])
    graph = steps.graph()
    picture = graph.to_svg([1.0, 2.0, 3.0, 4.0], task="q", states=list("abac"))
    assert sorted(box[0] for box in read(picture)[1]) == ["a", "c", "end"]
    assert sorted(title.split("\n")[-1] for title, *_ in read(picture)[2]) == ["mean advantage 3", "mean advantage 4"]
    alone = Steps([1, 2], list("ac"), groups=["q", "q"]).graph()
    assert alone.to_svg([3.0, 4.0], states=list("ac")) == picture


def test_nothing_at_all():
    steps = Steps([], [], groups=[])
    assert read(steps.graph().to_svg([]))[1:] == ([], [], [])


def test_states_that_nothing_leads_to():
    steps = Steps([0, 0], [1, 2], groups=[0, 0], next_state=[3, 4])
    graph = steps.graph(truncated=[True])
    _, boxes, lines, _ = read(graph.to_svg())
    assert [box[0] for box in boxes] == [f"state {s}" for s in graph.state_of_node]
    assert len(lines) == 2


def test_networkx_has_everything():
    nx = pytest.importorskip("networkx")
    steps = g1()
    graph = steps.graph(terminal=[1, 0, 0, 1])
    x = np.arange(13.0)
    made = graph.to_networkx(
        x,
        states=STATES,
        actions=ACTIONS,
        node_values={"value": np.arange(graph.n_nodes)},
        edge_values={"weight": np.arange(graph.n_edges) / 2},
    )
    assert isinstance(made, nx.MultiDiGraph)
    assert sorted(made.nodes) == list(range(graph.n_nodes))
    assert sorted((u, v, k) for u, v, k in made.edges(keys=True)) == sorted(
        zip(graph.source.tolist(), graph.target.tolist(), range(graph.n_edges), strict=True)
    )
    for row in range(13):
        u, v, e = int(graph.node_of_row[row]), int(graph.next_of_row[row]), int(graph.edge_of_row[row])
        same = [r for r in range(13) if graph.edge_of_row[r] == e]
        assert made.nodes[u] == {
            "task": "p",
            "end": False,
            "state": int(steps.state_index[row]),
            "label": STATES[row],
            "value": float(u),
        }
        assert made.edges[u, v, e] == {
            "action": int(steps.action_index[row]),
            "visits": len(same),
            "trajectories": len({TRAJECTORY[r] for r in same}),
            "advantage": pytest.approx(x[same].mean()),
            "label": ACTIONS[row],
            "weight": e / 2,
        }
    ends = [v for v, d in made.nodes(data=True) if d["end"]]
    assert ends == np.flatnonzero(graph.ends).tolist()
    assert made.nodes[ends[0]] == {"task": "p", "end": True, "value": float(ends[0])}
    assert nx.is_directed_acyclic_graph(made)
    assert len(list(nx.weakly_connected_components(made))) == 1
    plain = Steps([0, 0, 1], list("aab"), groups=["p", "q"]).graph(action=False).to_networkx()
    assert sorted(d["task"] for _, d in plain.nodes(data=True)) == ["p", "p", "q", "q"]
    assert all(sorted(d) == ["trajectories", "visits"] for *_, d in plain.edges(data=True))


def test_without_networkx(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ModuleNotFoundError, match=r"StepGraph.to_networkx\(\) needs networkx: pip install networkx"):
        g1().graph().to_networkx()


@pytest.mark.parametrize(
    ("name", "arguments", "keywords", "error", "match"),
    [
        (
            "svg",
            ([1.0],),
            {"task": "p"},
            ValueError,
            r"'advantages' must have length 4 \(= the number of rows\), got 1",
        ),
        ("networkx", ([1.0],), {}, ValueError, r"'advantages' must have length 4 \(= the number of rows\), got 1"),
        ("svg", (), {}, ValueError, r"'task' must name one of the 2 tasks of the graph, task='p' say, got None"),
        ("svg", (), {"task": "r"}, ValueError, r"'task' must be the id of a task of the graph \('p', 'q'\), got 'r'"),
        (
            "svg",
            (),
            {"task": "p", "max_nodes": 2},
            ValueError,
            r"the task must have at most max_nodes=2 nodes, got 3; draw the graph of fewer trajectories, steps.take",
        ),
        ("svg", (), {"task": np.arange(2)}, ValueError, r"'task' must be the id of a task of the graph .*, got array"),
        ("svg", (), {"task": "p", "max_nodes": 0}, ValueError, r"'max_nodes' must be at least 1, got 0"),
        ("svg", (), {"task": "p", "max_label": 1.5}, TypeError, r"'max_label' must be a whole number, got .* float"),
        ("svg", (), {"task": "p", "states": "abac"}, TypeError, r"'states' must be a list with one object a row, got"),
        ("svg", (), {"task": "p", "actions": [1]}, ValueError, r"'actions' must have length 4 \(= the number of row"),
        (
            "networkx",
            (),
            {"node_values": [1]},
            TypeError,
            r"'node_values' must be a mapping from names to one number a node, got .* list",
        ),
        (
            "networkx",
            (),
            {"node_values": {1: [1] * 5}},
            TypeError,
            r"'node_values' must have names that are strings, got",
        ),
        (
            "networkx",
            (),
            {"edge_values": {"w": [1]}},
            ValueError,
            r"\"edge_values\['w'\]\" must have length 4 \(= graph.n_edges\), got 1",
        ),
        (
            "networkx",
            (),
            {"edge_values": {"visits": [1] * 4}},
            ValueError,
            r"'edge_values' must not name an attribute that every edge may have, got 'visits'",
        ),
        (
            "networkx",
            (),
            {"node_values": {"end": [1] * 5}},
            ValueError,
            r"'node_values' must not name an attribute that every node may have, got 'end'",
        ),
    ],
)
def test_wrong_calls(name, arguments, keywords, error, match):
    if name == "networkx":
        pytest.importorskip("networkx")
    graph = Steps([0, 0, 1, 2], list("abac"), groups=["p", "q", "q"]).graph()
    with pytest.raises(error, match=rf"^StepGraph.to_{name}\(\): {match}"):
        getattr(graph, f"to_{name}")(*arguments, **keywords)
