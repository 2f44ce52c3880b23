"""Builders of a Forest beside those from parents, token sequences and nested records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import _core, _messages, _paths, _texts
from rollmath._arrays import ArrayLike, choice
from rollmath._checks import flag
from rollmath._layout import Layout, PruneReport
from rollmath.groups import Groups, as_groups

if TYPE_CHECKING:
    from typing import Self


class Builders(Layout):
    """More ways to make a :class:`~rollmath.Forest`."""

    @classmethod
    def from_paths(
        cls,
        paths: Sequence[Any],
        *,
        groups: Groups | ArrayLike | None = None,
        root: Literal["first", "added"] | None = None,
        separator: str | None = None,
        lengths: ArrayLike | None = None,
    ) -> Self:
        """From the path of each rollout: equal beginnings are the same nodes.

        Every path is a rollout and owns a leaf: a path that is the beginning of another, or equals one, gets a leaf of
        its own below its last element, without tokens. Children are in order of first appearance, nodes in preorder.
        The element of each node is its label.

        Args:
            paths: one path a rollout: a list or tuple of ids (strings, bytes, ints, UUIDs, tuples of these; 1 and "1"
                differ), or with ``separator`` a string.
            groups: one id a path; nothing merges across groups. Without it each tree is a group, and the first element
                its id.
            root: ``"first"``: the first element of a path is the root of its tree, and different first elements are
                different trees, of which a group may have several. ``"added"``: each group is one tree, with a root
                before the first elements (its label is the group's id). Default: ``"added"`` with groups, else
                ``"first"``.
            separator: splits paths that are strings.
            lengths: tokens of each element, in the shape of the paths (a list of lists, a Ragged) or flat. Paths must
                agree on an element that they have in common. The first element's are the prompt if it is the root.

        Raises:
            ValueError: wrong lengths, paths that do not agree on one, an empty element, a path without a root.
            TypeError: paths that are no lists, elements that are no ids.

        >>> from rollmath import Forest
        >>> forest = Forest.from_paths(["q1#0#0", "q1#0#1", "q1#1", "q2#0"], separator="#")
        >>> forest, forest.labels
        (Forest(7 nodes, 4 rollouts, 2 trees), ('q1', '0', '0', '1', '1', 'q2', '0'))
        """
        who = "Forest.from_paths"
        root = root if root is not None else "first" if groups is None else "added"
        choice(who, "root", root, ("first", "added"))
        if root == "added" and groups is None:
            msg = f"{who}(): 'groups' are needed with root='added', which makes one tree of each; give one id a path"
            raise ValueError(msg)
        flat, offsets = _paths.read(who, paths, separator)
        ids = _paths.numbered(who, flat, offsets)
        trees, given = _paths.trees_of(who, ids, offsets, groups, rooted=root == "first")
        grown = _paths.grow(who, ids, offsets, trees, rooted=root == "first")
        element = grown.element
        labels = [flat[e] if e >= 0 else None for e in element.tolist()]
        if given is None:
            owners = _paths.named_by_roots(who, [flat[e] for e in offsets[:-1][trees.first].tolist()])
        else:
            owners = given.take(trees.first)
        if root == "added":
            for v, name in zip(np.flatnonzero(grown.parents < 0).tolist(), owners.ids, strict=True):
                labels[v] = name
        tokens = None
        if lengths is not None:
            # With one token an element, the nodes of a rollout's tokens are those of its elements.
            core = _core.Preorder.from_parents(who, grown.parents, grown.leaves, (element >= 0).astype(np.int64))
            node = cls._make(core, owners).expand(np.arange(len(element)), per="rollout", include_root=True).values
            tokens = _paths.element_lengths(who, lengths, offsets, element, node)
        core = _core.Preorder.from_parents(who, grown.parents, grown.leaves, tokens)
        return cls._make(core, owners, None, tuple(labels))

    @classmethod
    def from_prefix_texts(
        cls,
        texts: Sequence[str],
        *,
        groups: Groups | ArrayLike,
        rewards: ArrayLike | None = None,
        add_root: bool = True,
        missing: Literal["raise", "prune", "nan"] = "raise",
    ) -> Self:
        """From the texts of all nodes, where a child's text begins with its parent's, as tree searches dump them.

        The parent of a text is the longest other text of its group that it begins with. **Equal texts of a group are
        one node**: a dump lists states, and a state that was proposed twice is listed twice. (Rollouts with equal
        texts are something else; see :meth:`from_paths` and :meth:`from_sequences`.) The label of a node is what
        its text has beyond its parent's, so labels along a path spell the text.

        Nodes are the distinct texts in order of first appearance, so that text ``i`` is node ``i`` if none repeats,
        and then the added roots. :attr:`report` has the node of each text.

        Args:
            texts: strings, in any order.
            groups: one id a text; each group is one tree.
            rewards: one number a text, NaN or None where there is none; those of the leaves become :attr:`rewards`.
            add_root: True: each group has a root with the empty text, given or added. False: the texts of a group must
                all begin with one of them.
            missing: what leaves without a reward get, where there are ``rewards``: an error, ``"prune"`` drops them
                (``report.pruned`` tells which), ``"nan"`` keeps them with NaN.

        Raises:
            ValueError: wrong lengths, a reward at a text that another extends, equal texts with different rewards, a
                leaf without one, two roots with ``add_root=False``.
            TypeError: not strings.

        >>> from rollmath import Forest
        >>> forest = Forest.from_prefix_texts(["2+2", "2+2=4", "2+2=5", "4"], groups=[0] * 4, rewards=[None, 1, 0, 1])
        >>> forest.parents.tolist(), forest.labels, forest.rewards.tolist()
        ([4, 0, 0, 4, -1], ('2+2', '=4', '=5', '4', ''), [1.0, 0.0, 1.0])
        >>> print(forest.report)
        4 texts made 5 nodes; equal to an earlier text: 0, added roots: 1
        """
        who = "Forest.from_prefix_texts"
        choice(who, "missing", missing, ("raise", "prune", "nan"))
        if rewards is None and missing != "raise":
            msg = f"{who}(): missing={missing!r} says what leaves without a reward get, but there are no 'rewards'"
            raise ValueError(msg)
        read = _texts.read(who, texts, groups, rewards, add_root=flag(who, "add_root", add_root))
        core = _core.Preorder.from_parents(who, read.parents)
        made = cls._make(core, read.groups, read.rewards, read.labels, read.report)
        if missing == "prune":

            def told(pruned: PruneReport) -> _texts.TextsReport:
                new = np.full(made.n_nodes, -1)
                new[pruned.kept_nodes] = np.arange(len(pruned.kept_nodes))
                return read.report._replace(nodes=new[read.report.nodes], pruned=pruned)

            return made._without_missing(told)
        if read.rewards is not None and missing == "raise" and (bad := np.flatnonzero(np.isnan(read.rewards))).size:
            at = int(np.flatnonzero(read.report.nodes == made.leaves[bad[0]])[0])
            fix = "leave it out, give it a reward, or choose missing='prune'"
            msg = f"{who}(): 'rewards' must have a number for every leaf, got none for texts[{at}]; {fix}"
            raise ValueError(msg)
        return made

    @classmethod
    def from_messages(
        cls,
        rollouts: Sequence[Any] | Any,
        *,
        groups: Groups | ArrayLike,
        sampled_jointly: bool | ArrayLike = True,
    ) -> Self:
        """From conversations of several turns: one node a message, equal beginnings are the same nodes.

        A rollout is what :meth:`Rows.from_turns` takes, a list of turns ``{"prompt": ids, "response": ids}``, or a
        message graph: a mapping with ``"nodes"``, each a mapping with ``"parent"`` (number of an earlier node, None for
        a root), ``"token_ids"`` (what it adds), ``"mask"`` (True for sampled tokens; or ``"sampled"`` for all of them)
        and optional ``"logprobs"`` (one a sampled token). Other keys are not read.

        The first prompt is the root, then come responses and what was added between them; labels are ``"prompt"``,
        ``"response"`` (it has trained tokens) and ``"observation"``. Messages merge if their tokens, masks and
        payloads are equal, whole messages only.

        Where the prompt of a turn does not extend what was before it, **a new tree begins** in the same group, with
        that prompt as its root; ``print(forest.report)`` says where and why. So a rollout may have several leaves.
        ``forest.report.rows`` has one row a leaf (``rows.rollouts`` tells whose), with exactly the positions of
        ``forest.expand(x, per="rollout")``; spans point into ``forest.report.tokens``.

        Args:
            rollouts: a list of rollouts, or a mapping from id to rollout.
            groups: one id a rollout.
            sampled_jointly: True: rollouts of a group may share nodes. False: only those of a rollout. Or one id a
                rollout: those with the same id. See :meth:`from_sequences` for why it matters.

        Raises:
            ValueError: a rollout without turns or nodes, keys and lengths that are wrong, a parent that is no earlier
                node.
            TypeError: what is no mapping or holds no integers.

        Source: the form of message graphs is that of verifiers v1 (``verifiers/v1/graph.py``, code read).

        >>> from rollmath import Forest
        >>> ask = {"prompt": [1, 2], "response": [3]}
        >>> forest = Forest.from_messages(
        ...     [[ask, {"prompt": [1, 2, 3, 9], "response": [4]}], [ask, {"prompt": [1, 2, 9], "response": [5]}]],
        ...     groups=["q", "q"],
        ... )
        >>> forest.labels
        ('prompt', 'response', 'observation', 'response', None, 'prompt', 'response')
        >>> forest.parents.tolist(), forest.leaves.tolist(), forest.report.rows.rollouts.index.tolist()
        ([-1, 0, 1, 2, 1, -1, 5], [3, 4, 6], [0, 1, 1])
        >>> print(forest.report)
        2 rollouts of 4 turns made 3 rows: 1 turn does not extend the one before it
          rollout 1, turn 1: position 2 should be 3 (token 0 of the last response), got 9; new row 2 (segment 1)
        """
        who = "Forest.from_messages"
        read = _messages.read(who, rollouts)
        rows, tokens = read.report
        given = as_groups(who, groups, length=rows.n_rollouts, why="the number of rollouts")
        merging = _paths.may_merge(who, given, sampled_jointly, "rollout").take(rows.rollouts.index)
        flat = [message for row in read.messages for message in row]
        ids = np.ascontiguousarray(Groups([message.key() for message in flat]).index)
        offsets = np.cumsum([0] + [len(row) for row in read.messages])
        trees, _ = _paths.trees_of(who, ids, offsets, merging, rooted=True)
        grown = _paths.grow(who, ids, offsets, trees, rooted=True)
        # Where each message starts in its row, and what a node has from the first message that it is.
        size = np.array([len(message.tokens) for message in flat], dtype=np.int64)
        row = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        start = np.cumsum(size) - size - tokens.offsets[row]
        has = grown.element >= 0
        lengths, starts, owner = (np.where(has, x[grown.element], 0) for x in (size, start, row))
        places = (owner, starts)
        core = _core.Preorder.from_parents(who, grown.parents, grown.leaves, lengths, places, tokens.offsets)
        kinds = ["response" if message.trained.any() else "observation" for message in flat]
        labels = [kinds[e] if e >= 0 else None for e in grown.element.tolist()]
        for v in core.roots.tolist():
            labels[v] = "prompt"
        owners = given.take(rows.rollouts.index).take(trees.first)
        return cls._make(core, owners, None, tuple(labels), read.report)

    def _without_missing(self, told: Callable[[PruneReport], Any]) -> Self:
        """Without the rollouts whose reward is NaN; the report as ``told``."""
        assert self.rewards is not None
        pruned, report = self.prune(~np.isnan(self.rewards))
        pruned._fill(report=told(report))
        made: Self = pruned
        return made

    if TYPE_CHECKING:

        def expand(self, x: ArrayLike, *, per: Literal["rollout", "node"], include_root: bool = False) -> Any: ...

        def prune(self, keep: ArrayLike) -> Any: ...
