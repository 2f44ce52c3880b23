"""Two kernels from the graph of a loss: one over the tokens, one that reduces what its programs have summed up."""

from __future__ import annotations

import hashlib
import linecache
from functools import lru_cache
from typing import Any, NamedTuple

from rollmath.loss._emit import Expressions, indented, joined, pairs
from rollmath.loss._graph import Graph
from rollmath.loss._metrics import TERMS
from rollmath.loss._token_kernel import TokenKernel

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
        segment_doubles: numbers of it, too, each of which it takes as the sum of two.
        doubles: the same of the second kernel.
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
    writer = TokenKernel(graph, dict(kinds), masked)
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
    exec(compile(text, name, "exec"), scope)
    return Kernels(scope["tokens"], scope["loss"])


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
    shape = ["partials", "blocks", f"{len(sums)}", f"{len(maxima)}", "SUM_ROWS", "MAX_ROWS", "CHUNK"]
    numbers = ["scale", "coef", *(f"k{k}" for k in range(len(e.doubles)))]
    head = [
        f"sums, maxima = partial.reduce_partials({', '.join(shape)})",
        "sum_row = tl.arange(0, SUM_ROWS)",
        "max_row = tl.arange(0, MAX_ROWS)",
        "trained = trained_tokens.to(tl.float64)",
        "share = 1.0 / step_tokens.to(tl.float64)",
        *joined(numbers),
    ]
    arguments = ["partials", "table", "value", "blocks", "trained_tokens", "step_tokens", *pairs(numbers)]
    sizes = "SUM_ROWS: tl.constexpr, MAX_ROWS: tl.constexpr, CHUNK: tl.constexpr"
    text = "@triton.jit(do_not_specialize=['blocks', 'trained_tokens', 'step_tokens'])\n"
    text += f"def loss({', '.join(arguments)}, {sizes}):\n" + indented(head + body)
    return text, ("loss", *terms, *means, *largest), tuple(e.doubles)
