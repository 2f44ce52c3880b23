"""Two kernels from the graph of a loss: one over the tokens, one that reduces what the blocks of it have summed up."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rollmath.loss._lowering import Unsupported
from rollmath.loss._metrics import TERMS
from rollmath.loss._record import Graph, Node

if TYPE_CHECKING:
    from types import CodeType

#: Numbers that are written into a kernel. All others are arguments, so that one that changes compiles nothing.
WRITTEN = {0.0, 0.5, 1.0, 2.0, 4.0, float("inf"), torch.finfo(torch.float32).max}

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_CALLS = {
    **{name: f"elementary.{name}" for name in ("maximum", "minimum", "exp", "expm1", "log", "log1p")},
    **{name: f"elementary.{name}" for name in ("sigmoid", "tanh", "sign")},
    "div": "tl.div_rn",
    "sqrt": "tl.sqrt_rn",
    "abs": "tl.abs",
    "where": "tl.where",
}
_TYPES = {torch.float32: "tl.float32", torch.int64: "tl.int64", torch.int32: "tl.int32", torch.bool: "tl.int1"}


class Source(NamedTuple):
    """The text of both kernels, and what they want to be called with, in this order.

    Attributes:
        columns: inputs by name.
        floats: numbers of the first kernel.
        ints: whole numbers of it.
        numbers: numbers of the second one, each of which it takes as a sum of two.
        inputs: inputs with one number a call, and in which kernel they are.
        sums: rows of partial sums.
        maxima: rows of partial maxima.
        names: the metrics.
    """

    text: str
    columns: tuple[str, ...]
    per_row: bool
    floats: tuple[float, ...]
    ints: tuple[int, ...]
    numbers: tuple[float, ...]
    sums: int
    maxima: int
    names: tuple[str, ...]


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
    return _Writer(graph, dict(kinds), masked).source()


class _Writer:
    def __init__(self, graph: Graph, kinds: dict[str, str], masked: bool) -> None:
        self.graph, self.kinds, self.masked = graph, kinds, masked
        self.floats: list[float] = []
        self.ints: list[int] = []
        self.numbers: list[float] = []
        reductions = [(i, node) for i, node in enumerate(graph.nodes) if node.op in {"sum", "max"}]
        ordered = [i for i, node in reductions if node.op == "sum"], [i for i, node in reductions if node.op == "max"]
        self.sums, self.maxima = ordered
        used = self._needed([graph.theta, *(() if graph.entropy is None else (graph.entropy,))])
        self.in_tokens = used | self._needed([i for node in graph.nodes if node.op in {"sum", "max"} for i in node.args])
        self.columns = tuple(
            str(node.value)
            for i, node in enumerate(graph.nodes)
            if i in self.in_tokens and node.op == "input" and node.per == "token"
        )
        self.per_row = masked or any(kinds[name] in {"row", "rollout"} for name in self.columns)

    def _needed(self, roots: Iterable[int]) -> set[int]:
        found: set[int] = set()
        stack = list(roots)
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += self.graph.nodes[i].args
        return found

    def source(self) -> Source:
        tokens, loss, names = self._tokens(), *self._loss()
        text = (
            "import triton\nimport triton.language as tl\n\n"
            "from rollmath.kernels import _elementary as elementary\n"
            "from rollmath.kernels import reduce_partials as partial\n\n\n" + tokens + "\n\n" + loss
        )
        return Source(
            text,
            self.columns,
            self.per_row,
            tuple(self.floats),
            tuple(self.ints),
            tuple(self.numbers),
            len(self.sums),
            len(self.maxima),
            names,
        )

    def _tokens(self) -> str:
        graph, body = self.graph, []
        for i in sorted(self.in_tokens):
            node = graph.nodes[i]
            if node.per == "token" and node.dtype not in _TYPES:
                raise Unsupported(f"{node.dtype} has no form in the kernel")
            if node.op not in {"constant", "input"}:
                body.append(f"v{i} = {self._expression(node)}")
        for name, i in (("theta", graph.theta), ("entropy", graph.entropy)):
            if i is not None:
                body.append(f"{name}_slope = tl.where(live, {self._operand(i)}, 0.0)")
        for row, (i, how) in enumerate([(i, "sum") for i in self.sums] + [(i, "max") for i in self.maxima]):
            x = self._operand(graph.nodes[i].args[0])
            body.append(f"tl.store(partials + {row} * blocks + block, partial.block_{how}({x}, live))")
        slopes = ["theta"] + ["entropy"] * (graph.entropy is not None)
        arguments = [f"{name}_column" for name in self.columns if self.kinds[name] != "call"]
        arguments += ["row_column"] * self.per_row + ["rollout_of_row"] * ("rollout" in self._kinds())
        arguments += [f"{name}_out" for name in slopes] + ["partials", "n", "blocks"]
        whole = [f"i{k}" for k in range(len(self.ints))]
        arguments += whole + self._call_arguments() + [f"f{k}" for k in range(len(self.floats))]
        lines = [
            f"@triton.jit(do_not_specialize={['n', 'blocks', *whole]})",
            f"def tokens({', '.join(arguments)}, BLOCK: tl.constexpr):",
            "    block = tl.program_id(0).to(tl.int64)",
            "    at = block * BLOCK + tl.arange(0, BLOCK)",
            "    inside = at < n",
            "    # Full vectors, whatever n is; the last few tokens are read and written apart.",
            "    whole = n // 16 * 16",
            "    full = at < whole",
            "    rest = inside & (at >= whole)",
            "    last = block == blocks - 1",
        ]
        direct = [(f"{name}_column", _other(name)) for name in self.columns if self.kinds[name] == "token"]
        direct = ([("row_column", "-1")] if self.per_row else []) + direct
        lines += [f"    {name}_read = tl.load({name} + at, mask=full, other={other})" for name, other in direct]
        lines += ["    if last:"] * bool(direct)
        lines += [
            f"        {name}_read = tl.where(rest, tl.load({name} + at, mask=rest, other={other}), {name}_read)"
            for name, other in direct
        ]
        if self.per_row:
            lines += ["    row = row_column_read", "    live = row >= 0"]
        else:
            lines += ["    live = inside"]
        if "rollout" in self._kinds():
            lines += ["    rollout = tl.load(rollout_of_row + row, mask=live, other=0)"]
        lines += [f"    {line}" for line in self._reads()]
        lines += [f"    {line}" for line in body]
        lines += [f"    tl.store({name}_out + at, {name}_slope, mask=full)" for name in slopes]
        lines += ["    if last:"]
        lines += [f"        tl.store({name}_out + at, {name}_slope, mask=rest)" for name in slopes]
        return "\n".join(lines) + "\n"

    def _kinds(self) -> set[str]:
        return {self.kinds[name] for name in self.columns}

    def _call_arguments(self) -> list[str]:
        of_call = ["coef", *(name for name in self.columns if self.kinds[name] == "call")]
        return [f"{name}_number" for name in of_call]

    def _reads(self) -> list[str]:
        lines = []
        for name in self.columns:
            kind = self.kinds[name]
            if kind == "token":
                read = f"{name}_column_read"
                # What is not trained may be anything; a loss need not be finite for it.
                read = f"tl.where(live, {read}, {_other(name)})" if self.masked else read
            elif kind == "call":
                read = f"tl.zeros([BLOCK], tl.float32) + {name}_number"
            else:
                read = f"tl.load({name}_column + {kind}, mask=live, other={_other(name)})"
            lines.append(f"{name} = {read}" + ("" if name == "version" else ".to(tl.float32)" * (kind != "call")))
        return lines

    def _operand(self, i: int) -> str:
        node = self.graph.nodes[i]
        if node.op == "input":
            return f"{node.value}_number" if node.per == "call" else str(node.value)
        return self._constant(node) if node.op == "constant" else f"v{i}"

    def _constant(self, node: Node) -> str:
        x = node.value
        if isinstance(x, bool):
            return str(x)
        if isinstance(x, int):
            return str(x) if x in {0, 1} else _argument("i", self.ints, x)
        assert isinstance(x, float)
        return _literal(x) if abs(x) in WRITTEN else _argument("f", self.floats, x)

    def _expression(self, node: Node) -> str:
        args = [self._operand(i) for i in node.args]
        if node.op == "cast":
            source = self.graph.nodes[node.args[0]].dtype
            if node.dtype == torch.bool:
                return f"{args[0]} != 0"
            if node.per == "call" or {source, node.dtype} == {torch.float32, torch.float64}:
                return args[0]
            return f"{args[0]}.to({_TYPES[node.dtype]})"
        return _applied(node, args, _CALLS)

    def _loss(self) -> tuple[str, tuple[str, ...]]:
        """The second kernel, and what it stores."""
        graph = self.graph
        written: list[str] = []
        for k, i in enumerate([*self.sums, *self.maxima]):
            vector, at, size = ("sums", k, "SUM") if i in self.sums else ("maxima", k - len(self.sums), "MAX")
            written.append(f"v{i} = partial.pick({vector}, {at}, {size}_ROWS)")
        ready = {*self.sums, *self.maxima}
        for i in sorted(self._below([i for _, i in graph.sums], ready)):
            node = graph.nodes[i]
            if node.op == "input":
                written.append(f"v{i} = {node.value}")
            elif node.op != "constant":
                args = [self._number(j) for j in node.args]
                written.append(f"v{i} = {args[0] if node.op == 'cast' else _applied(node, args, _DOUBLE)}")
        at = dict(graph.sums)
        terms = [name for name in TERMS if name in at]
        maxima = [name for name in at if name.endswith("_max")]
        means = [name for name in at if name not in {*terms, *maxima}]
        stored = [f"total = {' + '.join(self._number(at[name]) for name in terms)}", "tl.store(table, total)"]
        for k, name in enumerate([*terms, *means, *maxima], start=1):
            share = " * share" if name in means else ""
            stored.append(f"tl.store(table + {k}, {self._number(at[name])}{share})")
        stored.append("tl.store(value, (total * scale).to(tl.float32))")
        pairs = ["scale", "coef", *(f"k{k}" for k in range(len(self.numbers)))]
        both = [f"{name}_{part}" for name in pairs for part in ("high", "low")]
        lines = [
            "@triton.jit(do_not_specialize=['blocks', 'trained_tokens', 'step_tokens'])",
            f"def loss(partials, table, value, blocks, trained_tokens, step_tokens, {', '.join(both)}, "
            "SUM_ROWS: tl.constexpr, MAX_ROWS: tl.constexpr, CHUNK: tl.constexpr):",
            f"    sums, maxima = partial.reduce_partials(partials, blocks, {len(self.sums)}, {len(self.maxima)}, "
            "SUM_ROWS, MAX_ROWS, CHUNK)",
            "    trained = trained_tokens.to(tl.float64)",
            "    share = 1.0 / step_tokens.to(tl.float64)",
            "    zero = tl.full([], 0.0, tl.float64)",
            *(f"    {name} = zero + {name}_high + {name}_low" for name in pairs),
            *(f"    {line}" for line in written + stored),
        ]
        return "\n".join(lines) + "\n", ("loss", *terms, *means, *maxima)

    def _below(self, roots: list[int], ready: set[int]) -> set[int]:
        found: set[int] = set()
        stack = [i for i in roots if i not in ready]
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += [j for j in self.graph.nodes[i].args if j not in ready]
        return found

    def _number(self, i: int) -> str:
        node = self.graph.nodes[i]
        if node.op != "constant":
            return f"v{i}"
        assert not isinstance(node.value, str)
        x = float(node.value or 0)
        return _literal(x) if abs(x) in WRITTEN else _argument("k", self.numbers, x)


#: Functions of float64 numbers, in the second kernel.
_DOUBLE = {
    "div": "{0} / {1}",
    "sqrt": "tl.sqrt({0})",
    "abs": "tl.abs({0})",
    "where": "tl.where({0}, {1}, {2})",
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
}


def _applied(node: Node, args: list[str], functions: dict[str, str]) -> str:
    if node.op in _INFIX:
        return f"{args[0]} {_INFIX[node.op]} {args[1]}"
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "not":
        return f"{args[0]} == 0"
    if node.op not in functions:
        raise Unsupported(f"{node.op} of sums has no form in the kernel")
    form = functions[node.op]
    return form.format(*args) if "{" in form else f"{form}({', '.join(args)})"


def _other(name: str) -> str:
    return "0" if name == "version" else "0.0"


def _literal(x: float) -> str:
    if x in {float("inf"), float("-inf")}:
        return f'{"-" * (x < 0)}float("inf")'
    return f"({x!r})" if x < 0 else repr(x)


def _argument(letter: str, known: list[Any], x: float) -> str:
    if x not in known:
        known.append(x)
    return f"{letter}{known.index(x)}"


class Kernels(NamedTuple):
    """Both kernels of a source."""

    tokens: Any
    loss: Any


@lru_cache(maxsize=256)
def kernels_of(text: str) -> Kernels:
    """The kernels of a text, which Triton reads again through linecache."""
    name = f"<rollmath.loss {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    code: CodeType = compile(text, name, "exec")
    scope: dict[str, Any] = {"__name__": "rollmath.loss.generated"}
    exec(code, scope)  # noqa: S102  our own text
    return Kernels(scope["tokens"], scope["loss"])
