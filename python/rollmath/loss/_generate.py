"""Two kernels from the graph of a loss: one over the tokens, one that reduces what its programs have summed up."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from rollmath.loss._emit import Expressions
from rollmath.loss._metrics import TERMS
from rollmath.loss._record import Graph

_HEAD = """import triton
import triton.language as tl

from rollmath.kernels import _elementary as elementary
from rollmath.kernels import reduce_partials as partial


"""


class Source(NamedTuple):
    """The text of both kernels, and what they want to be called with, in this order.

    Attributes:
        columns: inputs with a number a token.
        per_row: whether the row of each position is read.
        ints: whole numbers of the first kernel.
        floats: other numbers of it.
        doubles: numbers of the second one, each of which it takes as the sum of two.
        sums: rows of partial sums.
        maxima: rows of partial maxima, after them.
        names: the metrics.
    """

    text: str
    columns: tuple[str, ...]
    per_row: bool
    ints: tuple[int, ...]
    floats: tuple[float, ...]
    segment_doubles: tuple[float, ...]
    doubles: tuple[float, ...]
    sums: int
    maxima: int
    names: tuple[str, ...]


class Kernels(NamedTuple):
    """Both kernels of a source."""

    tokens: Any
    loss: Any


@lru_cache(maxsize=256)
def source_of(graph: Graph, kinds: tuple[tuple[str, str], ...], *, masked: bool) -> Source:
    """The kernels of a graph.

    Args:
        graph: what is done to tokens.
        kinds: where each column of the graph comes from: it has one number a ``"token"``, a ``"row"``, a ``"rollout"``
            or a ``"call"``.
        masked: whether some positions are not trained.

    Raises:
        Unsupported: what has no form in a kernel.
    """
    writer = _Tokens(graph, dict(kinds), masked)
    tokens = writer.text()
    loss, names, doubles = _loss(graph, writer.sums, writer.maxima)
    e = writer.e
    numbers = tuple(e.ints), tuple(e.floats), tuple(e.doubles), doubles
    counts = len(writer.sums), len(writer.maxima)
    return Source(_HEAD + tokens + "\n\n" + loss, writer.columns, writer.per_row, *numbers, *counts, names)


@lru_cache(maxsize=256)
def kernels_of(text: str) -> Kernels:
    """The kernels of a text, which Triton reads again through linecache."""
    name = f"<rollmath.loss {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"__name__": "rollmath.loss.generated"}
    exec(compile(text, name, "exec"), scope)  # noqa: S102  our own text
    return Kernels(scope["tokens"], scope["loss"])


class _Tokens:
    """The kernel over the tokens.

    A program has a block of positions, or all positions of a segment where tokens of a segment are looked at together.
    Then it goes over them once for each round of sums that the arithmetic needs, and once more.
    """

    def __init__(self, graph: Graph, kinds: dict[str, str], masked: bool) -> None:
        self.graph, self.kinds, self.masked = graph, kinds, masked
        self.e = Expressions(graph)
        self.sums, self.maxima = ([i for i, node in enumerate(graph.nodes) if node.op == op] for op in ("sum", "max"))
        self.slopes = {"theta": graph.theta} | ({} if graph.entropy is None else {"entropy": graph.entropy})
        self.reduced = [graph.nodes[i].args[0] for i in (*self.sums, *self.maxima)]
        self.inside = self.e.below([*self.slopes.values(), *self.reduced])
        self.columns = tuple(self._columns(self.inside))
        self.per_row = masked or any(kinds[name] in {"row", "rollout"} for name in self.columns)

    def text(self) -> str:
        # First the body, which finds out what the arguments are.
        body = self._block() if self.graph.level is None else self._segment()
        kinds = [self.kinds[name] for name in self.columns]
        arguments = [f"{name}_column" for name in self.columns if self.kinds[name] != "call"]
        arguments += ["row_column"] * self.per_row + ["rollout_of_row"] * ("rollout" in kinds)
        arguments += ["sizes", "run_offsets", "run_starts", "run_ends"] * (self.graph.level is not None)
        arguments += [f"{name}_out" for name in self.slopes] + ["partials", "n", "blocks"]
        arguments += (whole := [f"i{k}" for k in range(len(self.e.ints))])
        arguments += ["coef_number", "trained_number"] + [f"{name}_number" for name in self.columns if self.kinds[name] == "call"]
        arguments += [f"f{k}" for k in range(len(self.e.floats))] + _pairs(f"k{k}" for k in range(len(self.e.doubles)))
        head = f"@triton.jit(do_not_specialize={['n', 'blocks', *whole]})\n"
        return head + f"def tokens({', '.join(arguments)}, BLOCK: tl.constexpr):\n" + _indented(body)

    def _block(self) -> list[str]:
        direct = [*self._direct(self.columns)]
        return [
            "block = tl.program_id(0).to(tl.int64)",
            "at = block * BLOCK + tl.arange(0, BLOCK)",
            "inside = at < n",
            "# Full vectors, whatever n is; the last few tokens are read and written apart.",
            "full = at < n // 16 * 16",
            "rest = inside & (at >= n // 16 * 16)",
            "last = block == blocks - 1",
            *(f"{name}_read = tl.load({name} + at, mask=full, other={other})" for name, other in direct),
            *["if last:"] * bool(direct),
            *(
                f"    {name}_read = tl.where(rest, tl.load({name} + at, mask=rest, other={other}), {name}_read)"
                for name, other in direct
            ),
            *self._reads(self.columns),
            *(self.e.vector(i) for i in self.inside if self._is_made(i)),
            *(f"{name}_slope = tl.where(live, {self.e.of_token(i)}, 0.0)" for name, i in self.slopes.items()),
            *(
                f"tl.store(partials + {row} * blocks + block, {_OF_BLOCK[how].format(self._wide(i))})"
                for row, (i, how) in enumerate(self._reductions())
            ),
            *(f"tl.store({name}_out + at, {name}_slope, mask=full)" for name in self.slopes),
            "if last:",
            *(f"    tl.store({name}_out + at, {name}_slope, mask=rest)" for name in self.slopes),
        ]

    def _segment(self) -> list[str]:
        nodes, stage = self.graph.nodes, _stages(self.graph)
        single = frozenset(i for i, node in enumerate(nodes) if node.per == "segment")
        lines: list[str] = []
        needed = [i for i in self.inside if i in single]
        for sweep in range(max((stage[i] for i in needed), default=0) + 1):
            # What earlier sweeps have summed up is known; so is what is made of it, and of numbers of the call.
            ready = [i for i in needed if stage[i] == sweep]
            known = {i for i in needed if stage[i] < sweep} | {i for i in ready if nodes[i].op in _SEGMENT}
            lines += [self.e.number(i) for i in self.e.below(ready, known) if self._is_made(i)]
            found = [i for i in needed if nodes[i].op in _SEGMENT and stage[i] == sweep + 1]
            if found:
                lines += [f"a{i} = {_SEGMENT[nodes[i].op][0]}" for i in found]
                lines += self._sweep([nodes[i].args[0] for i in found], single, [
                    _SEGMENT[nodes[i].op][1].format(f"a{i}", self.e.of_token(nodes[i].args[0])) for i in found
                ])
                lines += [f"s{i} = {_SEGMENT[nodes[i].op][2].format(f'a{i}')}" for i in found]
        rows = [(row, i, how) for row, (i, how) in enumerate(self._reductions())]
        vectors = [(row, i, how) for row, i, how in rows if i not in single]
        lines += [f"p{row} = {_LANES[how][0]}" for row, _, how in vectors]
        lines += self._sweep([*self.slopes.values(), *(i for _, i, _ in vectors)], single, [
            *(_LANES[how][1].format(f"p{row}", self._wide(i)) for row, i, how in vectors),
            *(f"{name}_slope = tl.where(live, {self.e.of_token(i)}, 0.0)" for name, i in self.slopes.items()),
            *(f"tl.store({name}_out + at, {name}_slope, mask=inside)" for name in self.slopes),
        ])
        ends = {row: _LANES[how][2].format(f"p{row}") for row, _, how in vectors}
        ends |= {row: f"({self.e.single(i)}).to(tl.float32)" for row, i, _ in rows if i in single}
        return [
            "block = tl.program_id(0).to(tl.int64)",
            "size = tl.load(sizes + block).to(tl.float64)",
            "first_run = tl.load(run_offsets + block)",
            "last_run = tl.load(run_offsets + block + 1)",
            *_joined([f"k{k}" for k in range(len(self.e.doubles))]),
            "coef = zero + coef_number",
            "trained = zero + trained_number",
            *lines,
            *(f"tl.store(partials + {row} * blocks + block, {ends[row]})" for row, _, _ in rows),
        ]

    def _sweep(self, roots: list[int], single: frozenset[int], then: list[str]) -> list[str]:
        """Over all tokens of the segment: what the roots are made of, and then that."""
        made = self.e.below(roots, single)
        columns = tuple(self._columns(made))
        reads = [
            "at = start + tl.arange(0, BLOCK)",
            "inside = at < end",
            *(f"{name}_read = tl.load({name} + at, mask=inside, other={other})" for name, other in self._direct(columns)),
            *self._reads(columns),
            *(self.e.vector(i) for i in made if self._is_made(i)),
        ]
        return [
            "for run in range(first_run, last_run):",
            "    end = tl.load(run_ends + run)",
            "    for start in range(tl.load(run_starts + run), end, BLOCK):",
            *(f"        {line}" for line in [*reads, *then]),
        ]

    def _reductions(self) -> list[tuple[int, str]]:
        hows = ["sum"] * len(self.sums) + ["max"] * len(self.maxima)
        return list(zip(self.reduced, hows, strict=True))

    def _is_made(self, i: int) -> bool:
        return self.graph.nodes[i].op not in {"constant", "input"}

    def _wide(self, i: int) -> str:
        """A node as a vector, which a number of the call is not."""
        x = self.e.of_token(i)
        return f"tl.zeros([BLOCK], tl.float32) + {x}" if self.graph.nodes[i].per == "call" else x

    def _columns(self, nodes: list[int]) -> list[str]:
        inputs = (self.graph.nodes[i] for i in nodes)
        return [str(node.value) for node in inputs if node.op == "input" and node.per == "token"]

    def _direct(self, columns: tuple[str, ...]) -> list[tuple[str, str]]:
        """What is read where the tokens are, and what is there where none is."""
        found = [("row_column", "-1")] if self.per_row else []
        return found + [(f"{name}_column", _other(name)) for name in columns if self.kinds[name] == "token"]

    def _reads(self, columns: tuple[str, ...]) -> list[str]:
        lines = ["live = row_column_read >= 0" if self.per_row else "live = inside"]
        if any(self.kinds[name] == "row" for name in columns):
            lines.append("row = row_column_read")
        if any(self.kinds[name] == "rollout" for name in columns):
            lines.append("rollout = tl.load(rollout_of_row + row_column_read, mask=live, other=0)")
        for name in columns:
            kind = self.kinds[name]
            if kind == "token":
                # What is not trained may be anything; a loss need not be finite for it.
                read = f"tl.where(live, {name}_column_read, {_other(name)})" if self.masked else f"{name}_column_read"
            elif kind == "call":
                read = f"(tl.zeros([BLOCK], tl.float32) + {name}_number)"
            else:
                read = f"tl.load({name}_column + {kind}, mask=live, other={_other(name)})"
            lines.append(f"{name} = {read}" + ("" if name == "version" else ".to(tl.float32)"))
        return lines


#: What a block of tokens becomes.
_OF_BLOCK = {"sum": "tl.sum(tl.where(live, {0}, 0.0), 0)", "max": "partial.block_max({0}, live)"}

#: The same over several blocks: a number for each lane, what a block does to it, and the lanes together.
_LANES = {
    "sum": ("tl.zeros([BLOCK], tl.float32)", "{0} += tl.where(live, {1}, 0.0)", "tl.sum({0}, 0)"),
    "max": (
        'tl.full([BLOCK], -float("inf"), tl.float32)',
        "{0} = tl.where(live & (({1} > {0}) | ({1} != {1})), {1}, {0})",
        "partial.lane_max({0})",
    ),
}

#: The same for what tokens of a segment share.
_SEGMENT = {
    "segment_sum": (
        "tl.zeros([BLOCK], tl.float64)",
        "{0} += tl.where(live, {1}, 0.0).to(tl.float64)",
        "tl.sum({0}, 0)",
    ),
    "segment_max": (
        "tl.zeros([BLOCK], tl.float32)",
        "{0} = tl.maximum({0}, tl.where(live, {1}, 0.0), tl.PropagateNan.ALL)",
        "partial.lane_max({0}).to(tl.float64)",
    ),
}


def _stages(graph: Graph) -> list[int]:
    """How many sums over a segment must be known before each node."""
    found: list[int] = []
    for node in graph.nodes:
        found.append(max((found[i] for i in node.args), default=0) + (node.op in _SEGMENT))
    return found


def _other(name: str) -> str:
    return "0" if name == "version" else "0.0"


def _indented(lines: list[str]) -> str:
    return "".join(f"    {line}\n" for line in lines)


def _pairs(names: Iterable[str]) -> list[str]:
    """An argument has 24 bits; two have the first 48 of a number."""
    return [f"{name}_{part}" for name in names for part in ("high", "low")]


def _joined(names: list[str]) -> list[str]:
    return ["zero = tl.full([], 0.0, tl.float64)", *(f"{name} = zero + {name}_high + {name}_low" for name in names)]


def _loss(graph: Graph, sums: list[int], maxima: list[int]) -> tuple[str, tuple[str, ...], tuple[float, ...]]:
    """The second kernel, the names of the metrics, and its numbers."""
    e, at = Expressions(graph), dict(graph.sums)
    ready = {*sums, *maxima}
    body = [f"s{i} = tl.sum(tl.where(sum_row == {k}, sums, 0.0), 0)" for k, i in enumerate(sums)]
    body += [f"s{i} = tl.sum(tl.where(max_row == {k}, maxima, 0.0), 0)" for k, i in enumerate(maxima)]
    body += [e.number(i) for i in e.below(list(at.values()), ready) if graph.nodes[i].op not in {"constant", "input"}]
    terms = [name for name in TERMS if name in at]
    largest = [name for name in at if name.endswith("_max")]
    means = [name for name in at if name not in {*terms, *largest}]
    body += [f"total = {' + '.join(e.single(at[name]) for name in terms)}", "tl.store(table, total)"]
    for k, name in enumerate([*terms, *means, *largest], start=1):
        share = " * share" if name in means else ""
        body.append(f"tl.store(table + {k}, {e.single(at[name])}{share})")
    body.append("tl.store(value, (total * scale).to(tl.float32))")
    numbers = ["scale", "coef", *(f"k{k}" for k in range(len(e.doubles)))]
    head = [
        f"sums, maxima = partial.reduce_partials(partials, blocks, {len(sums)}, {len(maxima)}, SUM_ROWS, MAX_ROWS, CHUNK)",
        "sum_row = tl.arange(0, SUM_ROWS)",
        "max_row = tl.arange(0, MAX_ROWS)",
        "trained = trained_tokens.to(tl.float64)",
        "share = 1.0 / step_tokens.to(tl.float64)",
        *_joined(numbers),
    ]
    arguments = ["partials", "table", "value", "blocks", "trained_tokens", "step_tokens", *_pairs(numbers)]
    sizes = "SUM_ROWS: tl.constexpr, MAX_ROWS: tl.constexpr, CHUNK: tl.constexpr"
    text = "@triton.jit(do_not_specialize=['blocks', 'trained_tokens', 'step_tokens'])\n"
    text += f"def loss({', '.join(arguments)}, {sizes}):\n" + _indented(head + body)
    return text, ("loss", *terms, *means, *largest), tuple(e.doubles)
