"""Nodes of a graph as expressions of Triton: for vectors of tokens in float32, and for single numbers in float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from rollmath.loss._graph import Graph, Node
from rollmath.loss._lowering import Unsupported

#: Numbers that are written into a kernel. All others are arguments, so that one that changes compiles nothing.
WRITTEN = {0.0, 0.5, 1.0, float("inf"), torch.finfo(torch.float32).max, torch.finfo(torch.float64).max}

_INFIX = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
}  # fmt: skip
_VECTOR = {
    **{name: f"elementary.{name}({{0}})" for name in ("exp", "expm1", "log", "log1p", "sigmoid", "tanh")},
    # Of torch, NaN if either is.
    "maximum": "tl.maximum({0}, {1}, tl.PropagateNan.ALL)",
    "minimum": "tl.minimum({0}, {1}, tl.PropagateNan.ALL)",
    "sign": "({0} > 0).to(tl.float32) - ({0} < 0).to(tl.float32)",
    "div": "tl.div_rn({0}, {1})",
    "sqrt": "tl.sqrt_rn({0})",
    "abs": "tl.abs({0})",
    "where": "tl.where({0}, {1}, {2})",
    "spread": "({0}).to(tl.float32)",
}
_NUMBER = {
    "maximum": "tl.where(({0} > {1}) | ({0} != {0}), {0}, {1})",
    "minimum": "tl.where(({0} < {1}) | ({0} != {0}), {0}, {1})",
    "div": "{0} / {1}",
    "sqrt": "tl.sqrt({0})",
    "abs": "tl.abs({0})",
    "exp": "elementary.exp_double({0})",
    "sign": "({0} > 0).to(tl.float64) - ({0} < 0).to(tl.float64)",
    "where": "tl.where({0}, {1}, {2})",
}
_TYPES = {torch.float32: "tl.float32", torch.int64: "tl.int64", torch.int32: "tl.int32", torch.bool: "tl.int1"}


class Expressions:
    """Expressions of the nodes of a graph, ``v7`` or ``s7`` for node 7, and the numbers that become arguments.

    Attributes:
        floats: float arguments of a vector kernel, ``f0``, ...
        ints: whole ones, ``i0``, ...
        doubles: arguments ``k0``, ... of single numbers; each is the sum of two float32 numbers.
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes
        self.floats: list[float] = []
        self.ints: list[int] = []
        self.doubles: list[float] = []

    def vector(self, i: int) -> str:
        """The line that makes node ``i`` of tokens."""
        node = self.nodes[i]
        if node.per == "token" and node.dtype not in _TYPES:
            raise Unsupported(f"{node.dtype} has no form in the kernel")
        args = [self.of_token(j) for j in node.args]
        if node.op != "cast":
            return f"v{i} = {_applied(node, args, _VECTOR)}"
        if node.dtype == torch.bool:
            return f"v{i} = {args[0]} != 0"
        source = self.nodes[node.args[0]].dtype
        if node.per == "call" or {source, node.dtype} == {torch.float32, torch.float64}:
            return f"v{i} = {args[0]}"
        return f"v{i} = {args[0]}.to({_TYPES[node.dtype]})"

    def number(self, i: int) -> str:
        """The line that makes node ``i`` of a segment, or of all tokens, in float64."""
        node = self.nodes[i]
        args = [self.single(j) for j in node.args]
        if node.op != "cast":
            return f"s{i} = {_applied(node, args, _NUMBER)}"
        if node.dtype == torch.bool:
            return f"s{i} = {args[0]} != 0"
        return f"s{i} = {args[0]}" + ".to(tl.float64)" * (self.nodes[node.args[0]].dtype == torch.bool)

    def of_token(self, i: int) -> str:
        """Node ``i`` where tokens are computed with."""
        node = self.nodes[i]
        if node.per == "segment":
            return self.single(i)
        if node.op == "input":
            return f"{node.value}_number" if node.per == "call" else str(node.value)
        if node.op != "constant":
            return f"v{i}"
        x = node.value
        if isinstance(x, bool):
            return str(x)
        if isinstance(x, int):
            return str(x) if x in {0, 1} else _argument("i", self.ints, x)
        assert isinstance(x, float)
        return _literal(x) if abs(x) in WRITTEN else _argument("f", self.floats, x)

    def single(self, i: int) -> str:
        """Node ``i`` where single numbers are computed with."""
        node = self.nodes[i]
        if node.op == "input":
            return str(node.value)
        if node.op != "constant":
            return f"s{i}"
        assert not isinstance(node.value, str)
        x = float(node.value or 0)
        return _literal(x) if abs(x) in WRITTEN else _argument("k", self.doubles, x)

    def below(self, roots: list[int], ready: set[int] | frozenset[int] = frozenset()) -> list[int]:
        """What these nodes are made of, and they, in order, without what is ready and what that is made of."""
        found: set[int] = set()
        stack = [i for i in roots if i not in ready]
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += [j for j in self.nodes[i].args if j not in ready]
        return sorted(found)


def _applied(node: Node, args: list[str], forms: dict[str, str]) -> str:
    if node.op in _INFIX:
        return f"{args[0]} {_INFIX[node.op]} {args[1]}"
    if node.op == "neg":
        return f"-{args[0]}"
    if node.op == "not":
        return f"{args[0]} == 0"
    if node.op not in forms:
        raise Unsupported(f"{node.op} of single numbers has no form in the kernel")
    return forms[node.op].format(*args)


def _literal(x: float) -> str:
    text = 'float("inf")' if abs(x) == float("inf") else repr(abs(x))
    return f"(-{text})" if x < 0 else text


def _argument(letter: str, known: list[Any], x: float) -> str:
    if x not in known:
        known.append(x)
    return f"{letter}{known.index(x)}"


def indented(lines: list[str]) -> str:
    """The body of a function."""
    return "".join(f"    {line}\n" for line in lines)


def pairs(names: Iterable[str]) -> list[str]:
    """Two arguments for each number: one has 24 bits of it, two have 48."""
    return [f"{name}_{part}" for name in names for part in ("high", "low")]


def joined(names: list[str]) -> list[str]:
    """The numbers that these arguments are."""
    return ["zero = tl.full([], 0.0, tl.float64)", *(f"{name} = zero + {name}_high + {name}_low" for name in names)]
