"""The text of the kernel over the tokens."""

from __future__ import annotations

from rollmath.loss._emit import Expressions, indented, joined, pairs
from rollmath.loss._graph import Graph


class TokenKernel:
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
        arguments += ["coef_number", "trained_number"] + [
            f"{name}_number" for name in self.columns if self.kinds[name] == "call"
        ]
        arguments += [f"f{k}" for k in range(len(self.e.floats))] + pairs(f"k{k}" for k in range(len(self.e.doubles)))
        head = f"@triton.jit(do_not_specialize={['n', 'blocks', *whole]})\n"
        return head + f"def tokens({', '.join(arguments)}, BLOCK: tl.constexpr):\n" + indented(body)

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
                lines += self._sweep(
                    [nodes[i].args[0] for i in found],
                    single,
                    [_SEGMENT[nodes[i].op][1].format(f"a{i}", self.e.of_token(nodes[i].args[0])) for i in found],
                )
                lines += [f"s{i} = {_SEGMENT[nodes[i].op][2].format(f'a{i}')}" for i in found]
        rows = [(row, i, how) for row, (i, how) in enumerate(self._reductions())]
        vectors = [(row, i, how) for row, i, how in rows if i not in single]
        lines += [_LANES[how][0].format(f"p{row}") for row, _, how in vectors]
        lines += self._sweep(
            [*self.slopes.values(), *(i for _, i, _ in vectors)],
            single,
            [
                *(_LANES[how][1].format(f"p{row}", self._wide(i)) for row, i, how in vectors),
                *(f"{name}_slope = tl.where(live, {self.e.of_token(i)}, 0.0)" for name, i in self.slopes.items()),
                *(f"tl.store({name}_out + at, {name}_slope, mask=inside)" for name in self.slopes),
            ],
        )
        ends = {row: _LANES[how][2].format(f"p{row}") for row, _, how in vectors}
        ends |= {row: f"({self.e.single(i)}).to(tl.float32)" for row, i, _ in rows if i in single}
        return [
            "block = tl.program_id(0).to(tl.int64)",
            "size = tl.load(sizes + block).to(tl.float64)",
            "first_run = tl.load(run_offsets + block)",
            "last_run = tl.load(run_offsets + block + 1)",
            *joined([f"k{k}" for k in range(len(self.e.doubles))]),
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
            *(
                f"{name}_read = tl.load({name} + at, mask=inside, other={other})"
                for name, other in self._direct(columns)
            ),
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

#: The same over several blocks: what each lane begins with, what a block does to it, and the lanes together.
_LANES = {
    # A lane has any number of tokens: their sum, and what its rounding lost.
    "sum": (
        "{0}, {0}_lost = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)",
        "{0}, {0}_lost = partial.add({0}, {0}_lost, tl.where(live, {1}, 0.0))",
        "partial.lane_sum({0}, {0}_lost)",
    ),
    "max": (
        '{0} = tl.full([BLOCK], -float("inf"), tl.float32)',
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
