"""A loss on a GPU in two launches: a kernel made of the objective's own arithmetic, and one that reduces its sums."""

from __future__ import annotations

import importlib.util
import math
import os
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rollmath.loss._batch import BatchObjective
from rollmath.loss._call import Call, Finished, Result
from rollmath.loss._everything import Everything
from rollmath.loss._generate import Source, kernels_of, source_of
from rollmath.loss._lowering import Unsupported
from rollmath.loss._metrics import LossMetrics
from rollmath.loss._record import Given, graph_of
from rollmath.loss._resident import Resident, resident
from rollmath.loss._settled import Settled
from rollmath.loss._values import Values

if TYPE_CHECKING:
    from rollmath.loss._graph import Graph

#: Tokens of a block; one warp has no barriers in its sums. The order of the sums depends on these numbers alone.
BLOCK, WARPS = 256, 1
#: The same where a program has all tokens of a row, rollout or turn.
SEGMENT_BLOCK, SEGMENT_WARPS = 256, 8
#: Partial sums that the second kernel reads at once.
TILE, REDUCE_WARPS = 8192, 16

LARGEST = float(np.finfo(np.float32).max)


class Column(NamedTuple):
    """Numbers for the tokens, and what there is one of: a token, a row, a rollout or a call."""

    kind: str
    values: torch.Tensor | float


def fused(call: Call) -> Result | str:
    """The result, or why the arithmetic of this call has no kernel."""
    device = call.logprobs.theta.device
    if not _can_launch(device):
        return f"there are no kernels for {device}"
    if call.dtype != torch.float32:
        return "theta is float64"
    # A kernel is launched on the current device.
    with torch.cuda.device_of(call.logprobs.theta):  # type: ignore[no-untyped-call]
        try:
            return _made(call)
        except Unsupported as reason:
            return str(reason)


def _made(call: Call) -> Result | str:
    here = resident(call.rows, call.logprobs.shape, call.logprobs.theta.device)
    graph = graph_of(Settled(call.rules), _given(call, here))
    if isinstance(graph, str):
        return graph
    columns = {name: _column(call, here, name) for name in _inputs(graph)}
    kinds = tuple((name, column.kind) for name, column in columns.items())
    source = source_of(graph, kinds, masked=here.masked)
    return _REFUSED.get(source.text) or _launched(call, graph, source, here, columns)


def _can_launch(device: torch.device) -> bool:
    """Whether Triton is there and has code for the device; in its interpreter it has for the CPU."""
    if device.type not in {"cuda", "cpu"} or not _has_triton():
        return False
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


#: Kernels that Triton did not compile, and why.
_REFUSED: dict[str, str] = {}


def _launched(call: Call, graph: Graph, source: Source, here: Resident, columns: dict[str, Column]) -> Result | str:
    try:
        return _launch(call, graph, source, here, columns)
    except Exception as error:
        import triton  # noqa: PLC0415  it is there, or nothing was launched

        if not isinstance(error, (triton.CompilationError, triton.OutOfResources)):
            raise
        return _REFUSED.setdefault(source.text, f"Triton does not compile it: {error}")


def _launch(call: Call, graph: Graph, source: Source, here: Resident, columns: dict[str, Column]) -> Result:
    theta, rules = call.logprobs.theta, call.rules
    n, new = theta.numel(), theta.new_empty
    segments = None if graph.level is None else here.segments(call.rows, graph.level)
    block, warps = (BLOCK, WARPS) if segments is None else (SEGMENT_BLOCK, SEGMENT_WARPS)
    # One program at least: an empty grid is an error.
    blocks = max(-(-n // block) if segments is None else len(segments.sizes), 1)
    slopes = [new(n, dtype=torch.float32) for _ in range(1 if rules.coef is None else 2)]
    partials = new((source.sums + source.maxima) * blocks, dtype=torch.float32)
    table, value = new(len(source.names), dtype=torch.float64), new((), dtype=torch.float32)
    coef = float(rules.coef or 0.0)
    used = [columns[name] for name in source.columns]
    kernels = kernels_of(source.text)
    kernels.tokens[(blocks,)](
        *(x.values for x in used if x.kind != "call"),
        *([here.row(call.rows)] if source.per_row else []),
        *([here.rollout(call.rows)] if any(x.kind == "rollout" for x in used) else []),
        *(segments or ()),
        *slopes,
        partials,
        n,
        blocks,
        *source.ints,
        coef,
        float(here.trained),
        *(x.values for x in used if x.kind == "call"),
        *source.floats,
        *_halves(source.segment_doubles),
        BLOCK=block,
        num_warps=warps,
        enable_fp_fusion=False,
    )
    rows = [1 << (max(number, 1) - 1).bit_length() for number in (source.sums, source.maxima)]
    kernels.loss[(1,)](
        partials,
        table,
        value,
        blocks,
        here.trained,
        max(call.tokens, 1),
        *_halves((call.scale, coef, *source.doubles)),
        SUM_ROWS=rows[0],
        MAX_ROWS=rows[1],
        CHUNK=max(TILE // rows[0], 16),
        num_warps=REDUCE_WARPS,
        enable_fp_fusion=False,
    )
    metrics = LossMetrics.of_table(source.names, table)
    return Result(slopes[0], slopes[1] if len(slopes) > 1 else None, {}, Finished(value, metrics))


def _given(call: Call, here: Resident) -> Given:
    policies = tuple(name for name in call.logprobs.given() if name != "theta")
    if isinstance(call.rules.objective, BatchObjective):
        policies += ("selected",)
    return Given(
        policies,
        call.weight is not None,
        call.entropy is not None,
        call.entropy_weight is not None,
        call.rows.version is not None,
        # Of no account where every token is looked at alone; so there is one graph.
        call.rules.coupled and here.aligned,
    )


def _inputs(graph: Graph) -> list[str]:
    return [str(node.value) for node in graph.nodes if node.op == "input" and node.per == "token"]


def _column(call: Call, here: Resident, name: str) -> Column:
    if name == "token_weight":
        weights = here.weights(call.weights)
        return Column("call" if isinstance(weights, float) else "row", weights)
    if name == "version":
        return Column("token", here.version(call.rows))
    if name == "selected":
        selected = call.selected()
        assert selected is not None
        return Column("token", selected)
    if name == "entropy":
        assert call.entropy is not None
        return Column("token", call.entropy.values.detach().reshape(-1))
    if name in {"advantages", "weight", "entropy_weight"}:
        values = getattr(call, name)
        assert isinstance(values, Values)
        return _constants(call, here, values)
    return Column("token", call.logprobs.given()[name].detach().reshape(-1))


def _constants(call: Call, here: Resident, source: Values) -> Column:
    theta, x = call.logprobs.theta, source.values
    if source.level == "turn" or (source.level == "token" and tuple(x.shape) != call.logprobs.shape):
        layout = Everything(call.rows, call.logprobs.shape, theta.device)
        return Column("token", layout.values(source, theta.new_empty(0, dtype=torch.float32)))
    # A kernel reads floats of any size where they are; others are made float32, those of the host before they move.
    if x.device != theta.device or not x.is_floating_point():
        x = source.narrow(x, theta.new_empty(0, dtype=torch.float32))
    kind = "row" if source.level == "rollout" and here.aligned else source.level
    return Column(kind, x.reshape(-1))


def _halves(numbers: tuple[float, ...]) -> list[float]:
    """Two float32 numbers for each, whose sum has its first 48 bits: an argument of a kernel has 24."""
    found = []
    for x in numbers:
        high = float(np.float32(x)) if abs(x) <= LARGEST else x
        found += [high, x - high if math.isfinite(x) else 0.0]
    return found
