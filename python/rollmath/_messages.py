"""Conversations of several turns into the nodes of a forest: one node a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import check_vector, describe, floats, host, host_only, integers, is_tensor, mask_bytes
from rollmath._checks import flag
from rollmath._turns import Turn, TurnsRow, columns, first_difference, read_turns, rollouts_named
from rollmath._turns_report import PrefixBreak, TurnsReport
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MessagesReport(NamedTuple):
    """What :meth:`Forest.from_messages` read; ``print`` it to see where prompts do not extend what was before.

    Attributes:
        rows: one row a leaf of the forest, in its order, with masks and log-probabilities;
            ``rows.rollouts`` tells the rollout of each leaf, ``rows.report`` where a new row began and why.
        tokens: prompt and positions of each row, to which ``forest.spans`` and ``forest.token_index`` point.
    """

    rows: Rows
    tokens: Ragged

    def __str__(self) -> str:
        return str(self.rows.report)


class Message(NamedTuple):
    """Tokens of a node, which of them are trained, and the number of what else must be equal for messages to merge."""

    tokens: NDArray[np.int64]
    trained: NDArray[np.bool_]
    payload: int

    def key(self) -> bytes:
        """Equal for messages that may merge."""
        head = np.array([len(self.tokens), self.payload])
        return b"".join((head.tobytes(), self.tokens.tobytes(), self.trained.tobytes()))


class Conversations(NamedTuple):
    """The messages of each row, first its prompt, and the report."""

    messages: list[list[Message]]
    report: MessagesReport


def read(who: str, rollouts: Any) -> Conversations:
    """Lists of turns, or message graphs, as rows and their messages."""
    if isinstance(rollouts, Mapping) and "nodes" in rollouts:
        msg = f"{who}(): 'rollouts' must be a list of rollouts or a mapping from ids to them, got one message graph"
        raise TypeError(msg)
    named = rollouts_named(who, rollouts, None)
    graphs = [isinstance(rollout, Mapping) for _, rollout in named]
    if any(graphs):
        if not all(graphs):
            two = f"{named[graphs.index(True)][0]!r} is a mapping and {named[graphs.index(False)][0]!r} is not"
            msg = f"{who}(): 'rollouts' must all be lists of turns or all mappings with 'nodes', but {two}"
            raise TypeError(msg)
        rows, keys, report, messages = _read_graphs(who, named)
    else:
        rows, keys, report = read_turns(who, rollouts, None)
        numbers: dict[Any, int] = {}
        messages = [_messages_of(row, numbers) for row in rows]
    made = Rows(**columns(who, rows, keys))
    made._fill(report=report)
    values = np.concatenate([row.seen for row in rows]) if rows else np.zeros(0, dtype=np.int64)
    tokens = Ragged.from_lengths(values, np.array([len(row.seen) for row in rows], dtype=np.int64))
    return Conversations(messages, MessagesReport(made, tokens))


def _messages_of(row: TurnsRow, numbers: dict[Any, int]) -> list[Message]:
    """Prompt, responses, and what came between them; empty ones are left out. ``numbers`` of the payloads so far."""
    made = [Message(row.seen[: row.prompt], np.zeros(row.prompt, dtype=bool), 0)]
    at = row.prompt
    for gap, turn in row.pieces:
        payload = {key: x for key, x in turn.extras.items() if key.startswith("payload.")}
        number = numbers.setdefault(_value(payload), len(numbers) + 1) if payload else 0
        for n, trained in ((gap, False), (len(turn.response), True)):
            if n:
                made.append(Message(row.seen[at : at + n], np.full(n, trained), number if trained else 0))
                at += n
    return made


def _value(x: Any) -> Any:
    """Something hashable that is equal for equal payloads; objects that cannot be compared are equal to themselves."""
    if isinstance(x, Mapping):
        return Mapping, frozenset((_value(key), _value(part)) for key, part in x.items())
    if isinstance(x, (set, frozenset)):
        return set, frozenset(map(_value, x))
    if isinstance(x, (list, tuple)):
        return type(x), tuple(map(_value, x))
    if is_tensor(x) or isinstance(x, np.ndarray):
        array = x if isinstance(x, np.ndarray) else host("", "", x.detach())[0]
        return array.dtype.str, array.shape, _value(array.tolist()) if array.dtype.hasobject else array.tobytes()
    if isinstance(x, float):
        return float, x.hex()  # NaN is the same as NaN here
    try:
        hash(x)
    except TypeError:
        return type(x), id(x)
    return type(x), x


def _read_graphs(
    who: str, named: list[tuple[Any, Any]]
) -> tuple[list[TurnsRow], tuple[str, ...], TurnsReport, list[list[Message]]]:
    """A row for each path from a root to a leaf."""
    rows: list[TurnsRow] = []
    breaks: list[PrefixBreak] = []
    messages: list[list[Message]] = []
    n_turns = 0
    graphs = [(rollout, _Graph(who, rollout, raw)) for rollout, raw in named]
    with_logprobs = any(x is not None for _, graph in graphs for x in graph.logprobs)
    for rollout, graph in graphs:
        n_turns += sum(bool(m.trained.any()) for m in graph.messages)
        pieces = [graph.pieces(v, with_logprobs=with_logprobs) for v in range(len(graph.messages))]
        before = len(rows)
        for leaf in graph.leaves():
            path = graph.path(leaf)
            messages.append([graph.messages[v] for v in path])
            rows.append(_row(rollout, messages[-1], [pieces[v] for v in path]))
            if len(rows) > before + 1:
                breaks += _branch(rollout, rows, messages, path, before)
    return rows, ("logprobs",) * with_logprobs, TurnsReport(len(named), n_turns, len(rows), tuple(breaks)), messages


def _branch(
    rollout: Any, rows: list[TurnsRow], messages: list[list[Message]], path: list[int], before: int
) -> list[PrefixBreak]:
    """Where a row differs from the row before it."""
    last, new = rows[-2].seen, rows[-1].seen
    at = first_difference(last, new)
    if at is None:
        return []
    edges = np.cumsum([0] + [len(m.tokens) for m in messages[-2]])
    message = int(np.searchsorted(edges, at, side="right")) - 1
    inside = at - int(edges[message]) if messages[-2][message].trained.any() else None
    edges = np.cumsum([len(m.tokens) for m in messages[-1]])
    node = path[min(int(np.searchsorted(edges, at, side="right")), len(path) - 1)]
    got = int(new[at]) if at < len(new) else None
    row = len(rows) - 1
    return [PrefixBreak(rollout, node, at, int(last[at]), got, inside, row, row - before)]


def _row(rollout: Any, messages: list[Message], pieces: list[list[tuple[int, Turn]]]) -> TurnsRow:
    """The row of a path; the root is its prompt."""
    root = len(messages[0].tokens)
    row = TurnsRow(rollout, np.concatenate([message.tokens for message in messages]), root, root)
    gap, last = 0, None
    for before, turn in chain.from_iterable(pieces[1:]):
        gap, last = gap + before, turn
        if len(turn.response):
            row.pieces.append((gap, turn))
            gap = 0
    if gap and last is not None:
        row.pieces.append((gap, last))
    return row


class _Graph:
    """The checked nodes of one rollout."""

    def __init__(self, who: str, rollout: Any, raw: Mapping[str, Any]) -> None:
        self.who, self.name = who, f"rollouts[{rollout!r}].nodes"
        nodes = raw.get("nodes")
        if isinstance(nodes, (str, bytes)) or not isinstance(nodes, Sequence):
            fix = "" if "nodes" in raw else "; a rollout is a list of turns, or a mapping with 'nodes'"
            msg = f"{who}(): {self.name} must be a list of nodes, got {describe(nodes)}{fix}"
            raise TypeError(msg)
        if not nodes:
            msg = f"{who}(): {self.name} is empty; leave the rollout out, with its reward"
            raise ValueError(msg)
        self.parents: list[int] = []
        self.messages: list[Message] = []
        self.logprobs: list[NDArray[Any] | None] = []
        for v, node in enumerate(nodes):
            if not isinstance(node, Mapping):
                msg = f"{who}(): {self.name}[{v}] must be a mapping, got {describe(node)}"
                raise TypeError(msg)
            self._read(v, node)

    def _read(self, v: int, node: Mapping[str, Any]) -> None:
        at, above = f"{self.name}[{v}]", node.get("parent")
        if above is not None and (not isinstance(above, (int, np.integer)) or isinstance(above, bool)):
            msg = f"{self.who}(): {at}.parent must be the number of a node or None, got {describe(above)}"
            raise TypeError(msg)
        if above is not None and not 0 <= above < v:
            earlier = f"a node before it, from 0 to {v - 1}, or None" if v else "None, because no node is before it"
            msg = f"{self.who}(): {at}.parent must be {earlier}, got {above}"
            raise ValueError(msg)
        ids = node.get("token_ids")
        host_only(self.who, f"{at}.token_ids", ids)
        tokens, _ = integers(self.who, f"{at}.token_ids", [] if ids is None else ids)
        if not len(tokens):
            msg = f"{self.who}(): {at}.token_ids is empty, so that messages cannot be compared; record the tokens"
            raise ValueError(msg)
        mask = node.get("mask")
        if mask is None:
            sampled = node.get("sampled")
            trained = np.full(len(tokens), sampled is not None and flag(self.who, f"{at}.sampled", sampled))
        else:
            marks = mask_bytes(self.who, f"{at}.mask", mask, length=len(tokens), why="its token_ids")
            trained = np.asarray(marks) != 0
        if above is None and trained.any():
            msg = f"{self.who}(): {at} is a root, so a prompt that nothing trains, but its mask marks tokens"
            raise ValueError(msg)
        logprobs = node.get("logprobs")
        values = None
        if logprobs is not None:
            given, _ = floats(self.who, f"{at}.logprobs", logprobs)
            if len(given):
                check_vector(self.who, f"{at}.logprobs", given, int(trained.sum()), "the True of its mask")
                values = given
        self.parents.append(-1 if above is None else int(above))
        self.messages.append(Message(tokens, trained, 0))
        self.logprobs.append(values)

    def leaves(self) -> list[int]:
        inner = set(self.parents)
        return [v for v in range(len(self.parents)) if v not in inner]

    def path(self, leaf: int) -> list[int]:
        nodes = [leaf]
        while self.parents[nodes[-1]] >= 0:
            nodes.append(self.parents[nodes[-1]])
        return nodes[::-1]

    def pieces(self, node: int, *, with_logprobs: bool) -> list[tuple[int, Turn]]:
        """Runs of trained tokens as responses, with the number of others before each; an empty response ends a gap."""
        message, logprobs = self.messages[node], self.logprobs[node]
        made = []
        edges = np.flatnonzero(np.diff(message.trained)) + 1
        start, gap, used = 0, 0, 0
        for end in [*edges.tolist(), len(message.tokens)]:
            n = end - start if message.trained[start] else 0
            if not n:
                gap = end - start
            if n or end == len(message.tokens):
                extras = {}
                if with_logprobs:
                    part = np.full(n, np.nan) if logprobs is None else logprobs[used : used + n]
                    extras["logprobs"] = part.astype(np.float64)
                made.append((gap, Turn(message.tokens[:0], message.tokens[end - n : end], extras)))
                gap = 0
            start, used = end, used + n
        return made
