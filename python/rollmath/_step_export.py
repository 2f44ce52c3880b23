"""A StepGraph as a graph of NetworkX, and drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rollmath import _core
from rollmath._arrays import ArrayLike, Immutable, describe, floats
from rollmath._checks import listed, whole
from rollmath._draw import printable
from rollmath._step_draw import Drawing, svg
from rollmath.groups import Groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath._step_graph import StepGraph


class StepPictures(Immutable):
    """Ways out of a :class:`StepGraph`."""

    def to_networkx(
        self,
        advantages: ArrayLike | None = None,
        *,
        states: Sequence[Any] | None = None,
        actions: Sequence[Any] | None = None,
        node_values: Mapping[str, ArrayLike] | None = None,
        edge_values: Mapping[str, ArrayLike] | None = None,
    ) -> Any:
        """As a ``networkx.MultiDiGraph``: nodes are numbered as here, and the key of an edge is its number here.

        Nodes have the attributes ``task`` (its id), ``end`` and, but for ends, ``state`` (its number); edges
        ``visits``, ``trajectories`` and, where the graph tells actions apart, ``action`` (its number).

        Args:
            advantages: one number a row of the steps; edges get the mean over their rows as ``advantage``.
            states: one object a row, whatever the state was made from; nodes get that of their first row as ``label``.
            actions: one object a row, likewise for edges.
            node_values: further numbers, name -> ``[n_nodes]``.
            edge_values: further numbers, name -> ``[n_edges]``.

        Raises:
            ModuleNotFoundError: networkx is not installed.
            ValueError: wrong lengths, or a name that is one of the attributes.
        """
        who = "StepGraph.to_networkx"
        try:
            import networkx as nx  # noqa: PLC0415
        except ModuleNotFoundError:
            msg = f"{who}() needs networkx: pip install networkx"
            raise ModuleNotFoundError(msg, name="networkx") from None
        graph = cast("StepGraph", self)
        of_node = _values(who, "node_values", node_values, graph.n_nodes, ("task", "end", "state", "label"))
        known = ("action", "visits", "trajectories", "advantage", "label")
        of_edge = _values(who, "edge_values", edge_values, graph.n_edges, known)
        if (credit := _by_edge(who, graph, advantages)) is not None:
            of_edge["advantage"] = credit.tolist()
        named = _first(who, "states", states, graph.node_of_row, graph.n_nodes)
        did = _first(who, "actions", actions, graph.edge_of_row, graph.n_edges)
        out = nx.MultiDiGraph()
        tasks = [graph.node_groups.ids[g] for g in graph.node_groups.index.tolist()]
        for v, (task, state) in enumerate(zip(tasks, graph.state_of_node.tolist(), strict=True)):
            own = {"task": task, "end": state < 0} | ({} if state < 0 else {"state": state})
            label = {} if named[v] is None else {"label": named[v]}
            out.add_node(v, **own, **label, **{name: x[v] for name, x in of_node.items()})
        ends = zip(graph.source.tolist(), graph.target.tolist(), strict=True)
        counts = list(zip(graph.action.tolist(), graph.visits.tolist(), graph.trajectories.tolist(), strict=True))
        for e, (u, v) in enumerate(ends):
            action, visits, trajectories = counts[e]
            own = {"visits": visits, "trajectories": trajectories} | ({} if action < 0 else {"action": action})
            label = {} if did[e] is None else {"label": did[e]}
            out.add_edge(u, v, key=e, **own, **label, **{name: x[e] for name, x in of_edge.items()})
        return out

    def to_svg(
        self,
        advantages: ArrayLike | None = None,
        *,
        task: Any = None,
        states: Sequence[Any] | None = None,
        actions: Sequence[Any] | None = None,
        max_label: int = 24,
        max_nodes: int = 100,
    ) -> str:
        """One task as a self-contained SVG: states in columns by the longest way from the start, steps as arrows.

        States where trajectories start have a thick rim, and ends are dark. Steps of a cycle that lead back are dashed
        and run below everything. Arrows are as thick as they have visits. The mouse shows whole labels, and the numbers
        of a step.

        Args:
            advantages: one number a row of the steps; the colour of an arrow is the mean over its rows: blue above 0,
                vermillion below, the stronger the larger, grey for 0 and black for NaN. Without it all are grey.
            task: the id of the task to draw; may be left out where there is one.
            states: one object a row of the steps, whatever the state was made from, as the label of its node: a string
                as it is, chat messages as ``role: text``, else as ``str``. Default: the number of the state.
            actions: one object a row, likewise for arrows. Default: the number of the action.
            max_label: longer labels are cut. White space in them becomes single spaces.
            max_nodes: larger tasks are refused.

        Raises:
            ValueError: wrong lengths, several tasks and no ``task``, no such task, or one that is too large.

        >>> from rollmath import Steps
        >>> steps = Steps([0, 0, 1, 1], ["hall", "yard", "hall", "hall"], list("nnsn"), groups=["t"] * 4)
        >>> picture = steps.graph().to_svg([1.0, 1.0, -1.0, -1.0])
        >>> picture[:5], picture.count('class="edge"'), picture.count("stroke-dasharray")
        ('<svg ', 4, 1)
        """
        who = "StepGraph.to_svg"
        graph = cast("StepGraph", self)
        most = whole(who, "max_label", max_label, 2)
        nodes = _task(who, graph, task)
        if len(nodes) > whole(who, "max_nodes", max_nodes):
            fix = "draw the graph of fewer trajectories, steps.take(keep).graph(), or raise max_nodes"
            msg = f"{who}(): the task must have at most max_nodes={max_nodes} nodes, got {len(nodes)}; {fix}"
            raise ValueError(msg)
        credit = _by_edge(who, graph, advantages)
        place = np.full(graph.n_nodes, -1)
        place[nodes] = np.arange(len(nodes))
        edges = np.flatnonzero(place[graph.source] >= 0)
        starts = np.isin(nodes, graph.start_of_trajectory)
        named = _first(who, "states", states, graph.node_of_row, graph.n_nodes)
        did = _first(who, "actions", actions, graph.edge_of_row, graph.n_edges)
        node_texts = [_node_text(graph, v, named[v], nodes) for v in nodes.tolist()]
        edge_texts = [_edge_text(graph, e, did[e]) for e in edges.tolist()]
        titles = []
        for e, text in zip(edges.tolist(), edge_texts, strict=True):
            n, of = int(graph.visits[e]), int(graph.trajectories[e])
            lines = [text] if text else []
            lines.append(f"{n} visit{'s'[: n != 1]} of {of} trajector{'y' if of == 1 else 'ies'}")
            titles.append("\n".join(lines + ([] if credit is None else [f"mean advantage {credit[e]:.6g}"])))
        return svg(
            Drawing(
                source=place[graph.source[edges]].tolist(),
                target=place[graph.target[edges]].tolist(),
                starts=starts.tolist(),
                ends=graph.ends[nodes].tolist(),
                node_labels=[_cut(text, most) for text in node_texts],
                node_titles=node_texts,
                edge_labels=[_cut(text, most) for text in edge_texts],
                edge_titles=titles,
                credit=None if credit is None else credit[edges],
                visits=graph.visits[edges],
            )
        )


def _task(who: str, graph: StepGraph, task: Any) -> NDArray[np.int64]:
    """The nodes of a task."""
    ids = graph.node_groups.ids
    if task is None:
        if len(ids) > 1:
            msg = f"{who}(): 'task' must name one of the {len(ids)} tasks of the graph, task={ids[0]!r} say, got None"
            raise ValueError(msg)
        return np.arange(graph.n_nodes)
    try:
        number = ids.index(task)
    except ValueError:
        # Also what compares with an id to something else than a bool, such as an array.
        few = ", ".join(map(repr, ids[:5])) + (", ..." if len(ids) > 5 else "")
        msg = f"{who}(): 'task' must be the id of a task of the graph ({few}), got {task!r}"
        raise ValueError(msg) from None
    return np.flatnonzero(graph.node_groups.index == number)


def _by_edge(who: str, graph: StepGraph, x: ArrayLike | None) -> NDArray[np.float64] | None:
    """The mean over the rows of each edge."""
    if x is None:
        return None
    values, _ = floats(who, "advantages", x, length=len(graph.edge_of_row), why="the number of rows")
    groups = Groups(graph.edge_of_row)
    mean = _core.reduce(who, "advantages", groups._csr, values, None, "mean", 0.0, "linear")
    made = np.full(graph.n_edges, np.nan)
    made[graph.edge_of_row[groups.first]] = mean
    return made


def _first(who: str, name: str, x: Any, index: NDArray[np.int64], n: int) -> list[Any]:
    """The object of the first row of each node or edge; None where there is none."""
    made: list[Any] = [None] * n
    if x is None:
        return made
    values = listed(who, repr(name), x, "a list with one object a row")
    if len(values) != len(index):
        msg = f"{who}(): {name!r} must have length {len(index)} (= the number of rows), got {len(values)}"
        raise ValueError(msg)
    which, rows = np.unique(index, return_index=True)
    for v, row in zip(which.tolist(), rows.tolist(), strict=True):
        made[v] = values[row]
    return made


def _values(
    who: str, name: str, values: Mapping[str, ArrayLike] | None, n: int, known: tuple[str, ...]
) -> dict[str, list[float]]:
    if values is None:
        return {}
    what, why = ("node", "graph.n_nodes") if name == "node_values" else ("edge", "graph.n_edges")
    if not isinstance(values, Mapping):
        msg = f"{who}(): {name!r} must be a mapping from names to one number a {what}, got {describe(values)}"
        raise TypeError(msg)
    for key in values:
        if not isinstance(key, str):
            msg = f"{who}(): {name!r} must have names that are strings, got {key!r}"
            raise TypeError(msg)
    if taken := [key for key in values if key in known]:
        msg = f"{who}(): {name!r} must not name an attribute that every {what} may have, got {taken[0]!r}"
        raise ValueError(msg)
    return {key: floats(who, f"{name}[{key!r}]", x, length=n, why=why)[0].tolist() for key, x in values.items()}


def _cut(text: str, most: int) -> str:
    line = printable(text)
    return line if len(line) <= most else line[: most - 1] + "…"


def _node_text(graph: StepGraph, v: int, label: Any, nodes: NDArray[np.int64]) -> str:
    if label is not None:
        return _text(label)
    if not graph.ends[v]:
        return f"state {graph.state_of_node[v]}"
    ends = nodes[graph.ends[nodes]]
    return "end" if len(ends) == 1 else f"end {np.searchsorted(ends, v)}"


def _edge_text(graph: StepGraph, e: int, label: Any) -> str:
    if label is not None:
        return _text(label)
    return "" if graph.action[e] < 0 else f"action {graph.action[e]}"


def _text(x: Any) -> str:
    """What a reader sees of a state or an action; of chat messages their role, text and calls."""
    if isinstance(x, (list, tuple)) and x and all(isinstance(m, Mapping) and "role" in m for m in x):
        return "\n".join(map(_text, x))
    if not (isinstance(x, Mapping) and "role" in x):
        return str(x)
    content = x.get("content")
    said = [content if isinstance(content, str) else json.dumps(content, default=str)] if content else []
    for call in x.get("tool_calls") or []:
        function = call.get("function", call) if isinstance(call, Mapping) else {}
        arguments = function.get("arguments", "") if isinstance(function, Mapping) else ""
        arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
        said.append(f"{function.get('name')}({arguments})" if isinstance(function, Mapping) else str(call))
    text = " ".join(said)
    return text if x["role"] == "assistant" else f"{x.get('name') or x['role']}: {text}"
