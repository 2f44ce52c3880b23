"""Stand-ins for tokens, and who writes down what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rollmath.loss._graph import Graph, Node, Per
from rollmath.loss._lowering import COMPARED, LOWERED, REDUCED, SAME, At, Unsupported, dtype_of, promoted
from rollmath.loss._spans import How, Level, Spans

#: Options of an operation that say where and how a result is stored.
_FORM = {"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking"}

#: What a kernel computes with.
DTYPES = (torch.float32, torch.float64, torch.bool, torch.int64, torch.int32)


class Segments(Spans):
    """Spans whose reductions are written down."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def sizes(self, level: Level) -> torch.Tensor:
        """Trained tokens of each segment."""
        return self.recorder.sizes(level)

    def reduce(self, x: torch.Tensor, level: Level, how: How) -> torch.Tensor:
        """Sum, mean or maximum of each segment."""
        out = self.recorder.reduced(x, level, "segment_max" if how == "max" else "segment_sum")
        return out / self.sizes(level).clamp(min=1) if how == "mean" else out

    def spread(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """The number of its segment for each token."""
        return self.recorder.spread(x, level)


class Recorder(TorchDispatchMode):
    """Writes down what torch is asked to do with columns of one length, on the meta device."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, or torch imports its compiler, which takes seconds; a loss is never called in compiled code."""
        return False

    def __init__(self, length: int, segments: int, *, one_row: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length, self.segments, self.one_row = length, segments, one_row
        self.level: Level | None = None
        self._making = False
        self._nodes: list[Node] = []
        self._index: dict[Node, int] = {}
        # The node that each storage holds now; tensors are kept, so that no storage comes twice.
        self._held: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []

    def column(self, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A column of the call."""
        return self._input(name, (self.length,), "token", dtype)

    def number(self, name: str) -> torch.Tensor:
        """A number of the call."""
        return self._input(name, (), "call", torch.float64)

    def _input(self, name: str, shape: tuple[int, ...], per: Per, dtype: torch.dtype) -> torch.Tensor:
        return self._stand_in(shape, self._add(Node("input", (), per, dtype, name)))

    def _stand_in(self, shape: tuple[int, ...], node: int) -> torch.Tensor:
        self._making = True
        made = torch.empty(shape, dtype=self.dtype(node), device="meta")
        self._making = False
        self._hold(made, node)
        return made

    def sizes(self, level: Level) -> torch.Tensor:
        """The trained tokens of each segment."""
        self._look_at(level)
        return self._input("size", (self.segments,), "segment", torch.float64)

    def reduced(self, x: torch.Tensor, level: Level, op: str) -> torch.Tensor:
        """A number of each segment, made of one of each token."""
        self._look_at(level)
        node = self.cast(self.node_of(x), torch.float32)
        if self._nodes[node].per not in {"token", "call"}:
            raise Unsupported("what is no column is reduced")
        return self._stand_in((self.segments,), self._add(Node(op, (node,), "segment", torch.float64)))

    def spread(self, x: torch.Tensor, level: Level) -> torch.Tensor:
        """A number of each token, that of its segment."""
        self._look_at(level)
        node = self.node_of(x)
        if self._nodes[node].per != "segment":
            raise Unsupported("what is spread is not one number a segment")
        return self._stand_in((self.length,), self._add(Node("spread", (node,), "token", torch.float32)))

    def _look_at(self, level: Level) -> None:
        if self.one_row and level == "rollout":
            level = "row"
        if self.level not in {None, level}:
            raise Unsupported(f"tokens of a {self.level} and of a {level} are looked at together")
        self.level = level

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Writes the operation down, and gives a tensor of the right shape and dtype without numbers.

        torch could do the latter; its own functions without numbers are slow, and import its compiler.
        """
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        if self._making:
            return func(*args, **kwargs)
        if name in SAME:
            out = func(*args, **kwargs)
            if out.dtype != args[0].dtype:
                raise Unsupported("bits are read as another type")
            if out.device.type == "meta":
                self.node_of(out)
            return out
        in_place = name.endswith("_")
        name = name.removesuffix("_") if in_place else name
        if name not in LOWERED:
            raise Unsupported(f"{func} has no form in the kernel")
        dtype = args[0].dtype if in_place else dtype_of(name, args, kwargs)
        node = LOWERED[name](self, dtype, *args, **{key: x for key, x in kwargs.items() if key not in _FORM})
        node = node if name in COMPARED and not in_place else self.cast(node, dtype)
        if self.dtype(node) not in DTYPES:
            raise Unsupported(f"{self.dtype(node)} has no form in the kernel")
        if in_place:
            self._hold(args[0], node)
            return args[0]
        return self._stand_in(self._shape(name, args), node)

    def _shape(self, name: str, args: tuple[Any, ...]) -> tuple[int, ...]:
        """The shape of a result: one number a token, one a segment, or one."""
        sizes = [tuple(x) for x in args if isinstance(x, (list, torch.Size))]
        if name in REDUCED:
            if any(size not in {(), (0,), (-1,)} for size in sizes):
                raise Unsupported("a reduction over another dimension")
            return ()
        if sizes:
            if len(sizes) > 1 or sizes[0] not in self._shapes:
                raise Unsupported(f"a tensor of shape {sizes[0]}")
            return sizes[0]
        found = {tuple(x.shape) for x in args if isinstance(x, torch.Tensor)} - {()}
        if len(found) > 1:
            raise Unsupported(f"tensors of shapes {sorted(found)} are combined")
        return found.pop() if found else ()

    @property
    def _shapes(self) -> set[tuple[int, ...]]:
        return {(), (self.length,), (self.segments,)}

    def node_of(self, x: Any) -> int:
        """The node of a tensor or number."""
        if isinstance(x, (bool, int, float)):
            dtype = torch.bool if isinstance(x, bool) else torch.int64 if isinstance(x, int) else torch.float64
            return self._add(Node("constant", (), "call", dtype, x))
        if not isinstance(x, torch.Tensor):
            raise Unsupported(f"{type(x).__name__} is neither a column nor a number")
        if x.device.type == "cpu" and x.dim() == 0:
            return self.node_of(x.item())
        found = self._held.get(x.untyped_storage()._cdata)
        if found is None or tuple(x.shape) not in self._shapes or x.storage_offset():
            raise Unsupported("a tensor is read that is no column of the call")
        return found

    def op(self, op: str, dtype: torch.dtype, *args: Any) -> int:
        """A node of this dtype of tensors, numbers or nodes, cast to it."""
        return self._made(op, dtype, dtype, args)

    def compare(self, op: str, *args: Any) -> int:
        """A node of bools."""
        return self._made(op, promoted(self, args), torch.bool, args)

    def _made(self, op: str, common: torch.dtype, dtype: torch.dtype, args: tuple[Any, ...]) -> int:
        nodes = tuple(self.cast(x.node if isinstance(x, At) else self.node_of(x), common) for x in args)
        return self.add(op, dtype, nodes)

    def add(self, op: str, dtype: torch.dtype, nodes: tuple[int, ...]) -> int:
        """A node of these nodes as they are."""
        per = {self._nodes[i].per for i in nodes}
        if len(per - {"call"}) > 1:
            raise Unsupported("what is done to tokens depends on sums over all of them")
        return self._add(Node(op, nodes, (per - {"call"} or {"call"}).pop(), dtype))

    def reduce(self, op: str, x: Any) -> At:
        """A sum or maximum over the tokens."""
        node = x.node if isinstance(x, At) else self.node_of(x)
        if isinstance(x, torch.Tensor) and x.dim() == 0:
            return At(node)
        dtype = self.dtype(node) if self.dtype(node).is_floating_point else torch.int64
        node = self.cast(node, torch.float32)
        if self._nodes[node].per == "sum":
            raise Unsupported("a sum is reduced again")
        return At(self._add(Node(op, (node,), "sum", dtype)))

    def cast(self, node: int, dtype: torch.dtype) -> int:
        """The node in this dtype."""
        x = self._nodes[node]
        if x.dtype == dtype:
            return node
        if x.op == "constant":
            assert not isinstance(x.value, str)
            kind: Callable[[Any], Any] = bool if dtype == torch.bool else float if dtype.is_floating_point else int
            return self._add(Node("constant", (), "call", dtype, kind(x.value)))
        return self._add(Node("cast", (node,), x.per, dtype))

    def cuts(self, node: int, dtype: torch.dtype) -> bool:
        """Whether a cast would cut a single number to a whole one, of which a kernel keeps the fraction."""
        x = self._nodes[node]
        whole = not dtype.is_floating_point and dtype != torch.bool
        return whole and x.dtype.is_floating_point and x.per != "token" and x.op != "constant"

    def dtype(self, node: int) -> torch.dtype:
        """The dtype of a node."""
        return self._nodes[node].dtype

    def _add(self, node: Node) -> int:
        # Constants are told apart by type too: 1 and 1.0 are equal.
        if node not in self._index:
            self._index[node] = len(self._nodes)
            self._nodes.append(node)
        return self._index[node]

    def _hold(self, x: torch.Tensor, node: int) -> None:
        self._kept.append(x)
        self._held[x.untyped_storage()._cdata] = node

    def graph(self, theta: int, entropy: int | None, sums: dict[str, int]) -> Graph:
        """The nodes that these need, and where they are then."""
        needed: set[int] = set()
        stack = [theta, *sums.values(), *(() if entropy is None else (entropy,))]
        while stack:
            i = stack.pop()
            if i not in needed:
                needed.add(i)
                stack += self._nodes[i].args
        order = sorted(needed)
        at = {old: new for new, old in enumerate(order)}
        nodes = tuple(replace(self._nodes[i], args=tuple(at[j] for j in self._nodes[i].args)) for i in order)
        if any(nodes[at[i]].per == "sum" for i in (theta, *(() if entropy is None else (entropy,)))):
            raise Unsupported("a derivative depends on sums over the tokens")
        named = tuple((name, at[i]) for name, i in sums.items())
        return Graph(nodes, at[theta], None if entropy is None else at[entropy], named, self.level)
