"""A Forest as nested records, as a graph of NetworkX, and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _draw
from rollmath._arrays import ArrayLike, describe, floats, host_only, integers
from rollmath._checks import whole
from rollmath._layout import Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Export(Layout):
    """Ways out of a :class:`~rollmath.Forest`."""

    def to_nested(
        self,
        rewards: ArrayLike | None = None,
        *,
        values: Mapping[str, ArrayLike] | None = None,
        tokens: ArrayLike | None = None,
        children: str = "children",
        reward: str = "reward",
        text: str = "text",
    ) -> list[dict[str, Any]]:
        """As nested records, one a tree, ready for ``json.dump`` (which itself stops at about 1,000 levels).

        The inverse of :meth:`from_nested`: reading the records gives this forest with its nodes in preorder.

        Args:
            rewards: one number a rollout; default :attr:`rewards`. Leaves with NaN, or all without any, get none.
            values: further numbers, name -> ``[n_nodes]``.
            tokens: the caller's flat tokens, of which each node gets its own under ``"tokens"``; needs spans and
                offsets.
            children: the key of the list of children; leaves have none.
            reward: the key of a leaf's reward.
            text: the key of a node's label; nodes without one have none.

        Raises:
            ValueError: wrong lengths, a key that is used twice, ``tokens`` without spans.

        >>> from rollmath import Forest
        >>> Forest.from_parents([-1, 0, 0]).to_nested([1.0, 0.0], values={"n": [2, 1, 1]})
        [{'n': 2.0, 'children': [{'n': 1.0, 'reward': 1.0}, {'n': 1.0, 'reward': 0.0}]}]
        """
        who = "Forest.to_nested"
        columns = self._values(who, values)
        names = [children, reward, text, *columns, *(["tokens"] if tokens is not None else [])]
        if twice := [name for name in names if names.count(name) > 1]:
            msg = f"{who}(): every key must be used once, got {twice[0]!r} twice"
            raise ValueError(msg)
        nodes: list[dict[str, Any]] = [{} for _ in range(self.n_nodes)]
        if self.labels is not None:
            for node, label in zip(nodes, self.labels, strict=True):
                if label is not None:
                    node[text] = label
        if tokens is not None:
            for node, own in zip(nodes, self._own_tokens(who, tokens), strict=True):
                node["tokens"] = own
        for name, column in columns.items():
            for node, x in zip(nodes, column.tolist(), strict=True):
                node[name] = x
        for v, x in self._leaf_rewards(who, rewards):
            nodes[v][reward] = x
        for v in self.order.tolist():
            if (above := int(self.parents[v])) >= 0:
                nodes[above].setdefault(children, []).append(nodes[v])
        return [nodes[v] for v in self.roots.tolist()]

    def to_networkx(self, rewards: ArrayLike | None = None, *, values: Mapping[str, ArrayLike] | None = None) -> Any:
        """As a ``networkx.DiGraph`` with an edge from each parent to each child.

        Nodes are numbered as here, added in preorder, and have the attributes ``tree``, ``group``, where known
        ``label`` and ``length`` (tokens), and at leaves ``rollout`` and ``reward``.

        Args:
            rewards: one number a rollout; default :attr:`rewards`.
            values: further numbers, name -> ``[n_nodes]``.

        Raises:
            ModuleNotFoundError: networkx is not installed.
            ValueError: wrong lengths, or a name that is one of the attributes.
        """
        who = "Forest.to_networkx"
        try:
            import networkx as nx  # noqa: PLC0415
        except ModuleNotFoundError:
            msg = f"{who}() needs networkx: pip install networkx"
            raise ModuleNotFoundError(msg, name="networkx") from None
        columns = self._values(who, values)
        known = ("tree", "group", "label", "length", "rollout", "reward")
        if taken := [name for name in columns if name in known]:
            msg = f"{who}(): 'values' must not name an attribute that nodes have anyway, got {taken[0]!r}"
            raise ValueError(msg)
        graph = nx.DiGraph()
        owner = [self.groups.ids[g] for g in self.groups.index.tolist()]
        for v in self.order.tolist():
            tree = int(self.tree[v])
            graph.add_node(v, tree=tree, group=owner[tree], **{name: x[v].item() for name, x in columns.items()})
            if self.labels is not None and self.labels[v] is not None:
                graph.nodes[v]["label"] = self.labels[v]
            if self.lengths is not None:
                graph.nodes[v]["length"] = int(self.lengths[v])
        for rollout, v in enumerate(self.leaves.tolist()):
            graph.nodes[v]["rollout"] = rollout
        for v, x in self._leaf_rewards(who, rewards):
            graph.nodes[v]["reward"] = x
        child = self.order[self.parents[self.order] >= 0]
        graph.add_edges_from(zip(self.parents[child].tolist(), child.tolist(), strict=True))
        return graph

    def to_graphviz(
        self,
        values: ArrayLike | None = None,
        *,
        labels: Sequence[Any] | None = None,
        max_label: int = 40,
        max_nodes: int = 5000,
    ) -> str:
        r"""As text in the DOT language, for Graphviz.

        Args:
            values: one number a node, ``[n_nodes]``; written behind the label, and its colour (white 0, blue above,
                orange below).
            labels: one object a node, shown as ``str``; default :attr:`labels`, else the numbers of the nodes.
            max_label: longer labels are cut. White space in them becomes single spaces.
            max_nodes: larger forests are refused.

        Raises:
            ValueError: wrong lengths, or a forest that is too large.

        >>> from rollmath import Forest
        >>> print(Forest.from_parents([-1, 0]).to_graphviz([0.0, 1.0], labels=["q", 'say "hi"']))
        digraph forest {
          rankdir=LR
          node [shape=box, style="rounded,filled", fillcolor="#ffffff", fontname=monospace]
          edge [arrowhead=none]
          0 [label="q  0", fillcolor="#ffffff"]
          1 [label="say \"hi\"  1", fillcolor="#5b9bd5"]
          0 -> 1 [penwidth=1]
        }
        """
        who = "Forest.to_graphviz"
        return _draw.dot(self._picture(who, values, labels, max_label, max_nodes))

    def to_svg(
        self,
        values: ArrayLike | None = None,
        *,
        labels: Sequence[Any] | None = None,
        max_label: int = 40,
        max_nodes: int = 500,
    ) -> str:
        """As a self-contained SVG: roots on the left, one line a leaf, edges as thick as there are leaves behind.

        Args:
            values: one number a node, ``[n_nodes]``; written behind the label, and its colour (white 0, blue above,
                orange below).
            labels: one object a node, shown as ``str``; default :attr:`labels`, else the numbers of the nodes.
            max_label: longer labels are cut; the whole one is shown when the mouse rests on it.
            max_nodes: larger forests are refused.

        Raises:
            ValueError: wrong lengths, or a forest that is too large.

        >>> from rollmath import Forest
        >>> Forest.from_parents([-1, 0]).to_svg()[:64]
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 38" widt'
        """
        who = "Forest.to_svg"
        return _draw.svg(self._picture(who, values, labels, max_label, max_nodes))

    def _picture(
        self, who: str, values: ArrayLike | None, labels: Sequence[Any] | None, max_label: int, max_nodes: int
    ) -> _draw.Picture:
        most_letters = whole(who, "max_label", max_label, 2)
        if self.n_nodes > whole(who, "max_nodes", max_nodes, 2):
            fix = "draw fewer rollouts with forest.prune(keep), or raise max_nodes"
            msg = f"{who}(): the forest must have at most max_nodes={max_nodes} nodes, got {self.n_nodes}; {fix}"
            raise ValueError(msg)
        x = None
        if values is not None:
            fix = ", take rewards up to nodes with rollmath.ops.up" if np.shape(values) == (self.n_leaves,) else ""
            x, _ = floats(who, "values", values, length=self.n_nodes, why=f"forest.n_nodes{fix}")
        names: Sequence[Any] = self.labels if self.labels is not None else range(self.n_nodes)
        if labels is not None:
            if isinstance(labels, (str, bytes)) or not isinstance(labels, (Sequence, np.ndarray)):
                msg = f"{who}(): 'labels' must be a list with one object a node, got {describe(labels)}"
                raise TypeError(msg)
            if len(labels) != self.n_nodes:
                msg = f"{who}(): 'labels' must have length {self.n_nodes} (= forest.n_nodes), got {len(labels)}"
                raise ValueError(msg)
            names = labels
        return _draw.Picture(self, names, x, most_letters)

    def _values(self, who: str, values: Mapping[str, ArrayLike] | None) -> dict[str, NDArray[Any]]:
        if values is None:
            return {}
        if not isinstance(values, Mapping):
            msg = f"{who}(): 'values' must be a mapping from names to one number a node, got {describe(values)}"
            raise TypeError(msg)
        why = "forest.n_nodes"
        return {
            name: floats(who, f"values[{name!r}]", x, length=self.n_nodes, why=why)[0] for name, x in values.items()
        }

    def _leaf_rewards(self, who: str, rewards: ArrayLike | None) -> list[tuple[int, float]]:
        """(node, reward) of the leaves that have one."""
        given = self.rewards if rewards is None else rewards
        if given is None:
            return []
        x, _ = floats(who, "rewards", given, length=self.n_leaves, why="forest.n_leaves")
        return [(v, r) for v, r in zip(self.leaves.tolist(), x.tolist(), strict=True) if not math.isnan(r)]

    def _own_tokens(self, who: str, tokens: ArrayLike) -> list[list[int]]:
        spans, offsets = self.spans, self._preorder.offsets
        if spans is None or offsets is None:
            msg = f"{who}(): 'tokens' need a forest with spans and offsets, as Forest.from_sequences makes it"
            raise ValueError(msg)
        host_only(who, "tokens", tokens)
        flat, _ = integers(who, "tokens", tokens, length=int(offsets[-1]), why="forest's tokens")
        filled = spans.lengths > 0
        start = np.zeros(self.n_nodes, dtype=np.int64)
        start[filled] = offsets[spans.rows[filled]] + spans.starts[filled]
        return [flat[a : a + n].tolist() for a, n in zip(start.tolist(), spans.lengths.tolist(), strict=True)]
