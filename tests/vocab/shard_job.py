"""Run by test_shard.py: logits whose vocabulary is spread over several processes, beside one process with all of it.

``python shard_job.py FOLDER 2 3 4`` forks 2, then 3, then 4 processes that talk by gloo. Each writes what it found to
``FOLDER/WORLD-RANK.json``: by the name of a case how far it is from one process; the bits of results; the errors.
"""

import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # distribute_tensor imports it: once here, instead of once in each process
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked

from rollmath.vocab import TokenSets, VocabShard, logprobs, row_stats
from rollmath.vocab._torch_merge import NAMES

N, V, K = 12, 23, 3
INF = float("inf")


class Batch:
    """The same on all ranks: rows of every kind, and what goes with them."""

    def __init__(self, dtype: torch.dtype, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.logits = (4 * torch.randn(N, V, dtype=torch.float64)).to(dtype)
        self.logits[1] += 1000
        self.logits[2] -= 1000
        self.logits[3, torch.rand(V) < 0.6] = -INF
        self.logits[3, 5] = 1.0
        # All but one of the ranks have nothing but -inf, whatever the layout.
        self.logits[4] = -INF
        self.logits[4, 11] = 0.5
        self.logits[5] = -INF
        self.logits[6, 2] = torch.nan
        self.logits[7, 20] = INF
        # Ties over ranks.
        self.logits[8] = 0.25
        self.labels = torch.randint(0, V, (N,))
        self.labels[3], self.labels[4], self.labels[9] = 5, 0, -100
        self.temperature = torch.rand(N, dtype=torch.float64) + 0.5
        self.mask = torch.rand(N) < 0.8
        self.ids = torch.stack([torch.randperm(V)[:K] for _ in range(N)])
        allowed = torch.rand(N, V) < 0.5
        allowed[0, :12] = False
        allowed[10] = False
        self.allowed = TokenSets.of_mask(allowed)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.upstream = {name: torch.randn((N, K) if name == "gathered" else (N,), dtype=wide) for name in NAMES}

    def cases(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Options of row_stats, by name."""
        every = {"outputs": NAMES, "ids": self.ids, "ignore_index": -100}
        yield "all", every
        yield "logprob", {"outputs": ("logprob",), "ignore_index": -100, "temperature": 0.7}
        yield "entropy", {"outputs": ("entropy",), "temperature": self.temperature}
        yield "options", every | {"temperature": self.temperature, "softcap": 5.0, "mask": self.mask}
        yield "allowed", every | {"allowed": self.allowed, "temperature": 1.5}

    def run(self, logits: torch.Tensor, **options: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The results and the gradient."""
        x = logits.detach().clone().requires_grad_()
        stats = row_stats(x, self.labels, **options)
        made = {name: y for name, y in stats._asdict().items() if y is not None}
        loss = sum((made[name] * self.upstream[name]).nan_to_num().sum() for name in made if name != "argmax")
        loss.backward()
        return {name: y.detach() for name, y in made.items()}, x.grad


LAYOUTS = ("even", "uneven", "backwards", "one empty", "padded")


def place(layout: str, world: int, rank: int) -> tuple[int, int, int]:
    """First column, width, and columns of padding of a rank."""
    if layout in {"even", "padded"}:
        width = -(-(V if layout == "even" else V + 30) // world)
        first = rank * width
        tokens = max(min(width, V - first), 0)
        return first, tokens, width - tokens if layout == "padded" else 0
    inner = [0, 1, 17] if layout != "one empty" else [0, 0, 9]
    cuts = [*inner[:world], V]
    spans = list(pairwise(cuts))
    first, stop = spans[::-1][rank] if layout == "backwards" else spans[rank]
    return first, stop - first, 0


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest difference, relative where numbers are above 1; infinite if one is NaN or infinite alone."""
    a, b = a.double(), b.double()
    if a.shape != b.shape:
        return INF
    same = (a == b) | (a.isnan() & b.isnan())
    off = ((a - b).abs() / b.abs().clamp(min=1)).where(~same, 0)
    return float(off.nan_to_num(INF, INF).max()) if a.numel() else 0.0


#: By dtype: the layouts of the first case, and those of the other cases.
PLAN = {
    torch.float64: (LAYOUTS, LAYOUTS),
    torch.float32: (LAYOUTS, ("uneven",)),
    torch.bfloat16: (("even", "padded"), ("padded",)),
}


def compare(world: int, rank: int) -> Iterator[tuple[str, float, int]]:
    """Every layout, dtype and case: how far from one process, and the bits of the results."""
    for dtype, plan in PLAN.items():
        batch = Batch(dtype)
        for number, (case, options) in enumerate(batch.cases()):
            exact = batch.logits.double() if dtype == torch.bfloat16 else batch.logits
            want, whole = batch.run(exact, **options)
            for layout in plan[number > 0]:
                name = f"{layout}, {case}, {str(dtype).removeprefix('torch.')}"
                first, width, padding = place(layout, world, rank)
                mine = batch.logits[:, first : first + width]
                if padding:
                    mine = torch.cat([mine, torch.full((N, padding), torch.nan, dtype=dtype)], 1)
                got, grad = batch.run(mine, shard=VocabShard(None, first, V), **options)
                for output, y in got.items():
                    shown, expected = y, want[output]
                    if output == "argmax":
                        # It says nothing of rows without a distribution, but those of only -inf have 0.
                        rows = want["lse"].isfinite() | ((want["lse"] == -INF) & (case != "allowed"))
                        shown, expected = y[rows], expected[rows]
                    yield f"{name}, {output}", apart(shown, expected), zlib.crc32(y.numpy())
                yield f"{name}, gradient", apart(grad[:, :width], whole[:, first : first + width].to(dtype)), 0
                yield f"{name}, gradient of padding", float(grad[:, width:].abs().sum()), 0


def dtensors(world: int) -> Iterator[tuple[str, float]]:
    """DTensor logits, over one dimension of a mesh and over two."""
    batch = Batch(torch.float64)
    want, whole = batch.run(batch.logits, outputs=NAMES, ids=batch.ids, ignore_index=-100)
    meshes = {"1-D": ((world,), (Shard(-1),))}
    if world == 4:
        meshes |= {
            "rows and vocabulary": ((2, 2), (Shard(0), Shard(1))),
            "vocabulary and rows": ((2, 2), (Shard(1), Shard(0))),
            "replicas": ((2, 2), (Replicate(), Shard(1))),
            "rows alone": ((2, 2), (Shard(0), Replicate())),
        }
    for name, (shape, placements) in meshes.items():
        mesh = init_device_mesh("cpu", shape, mesh_dim_names=("a", "b")[: len(shape)])
        rows = [p if isinstance(p, Shard) and p.dim == 0 else Replicate() for p in placements]

        def placed(x: torch.Tensor, mesh: Any = mesh, rows: Any = rows) -> DTensor:
            return distribute_tensor(x, mesh, rows)

        for kind in ("plain", "dtensor"):
            logits = distribute_tensor(batch.logits, mesh, placements).requires_grad_()
            labels, ids = placed(batch.labels), placed(batch.ids)
            upstream = {output: placed(x) for output, x in batch.upstream.items()}
            if kind == "plain":
                labels, ids = labels.to_local(), ids.to_local()
                upstream = {output: x.to_local() for output, x in upstream.items()}
            stats = row_stats(logits, labels, outputs=NAMES, ids=ids, ignore_index=-100)._asdict()
            total: Any = 0
            for output, y in stats.items():
                assert isinstance(y, DTensor) == (kind == "dtensor")
                full = y.full_tensor() if kind == "dtensor" else y
                expected = want[output] if kind == "dtensor" else placed(want[output]).to_local()
                if output == "argmax":
                    lse = stats_of(placed(want["lse"]), kind)
                    full, expected = full.where(lse.isfinite(), 0), expected.where(lse.isfinite(), 0)
                yield f"{name}, {kind}, {output}", apart(full.detach(), expected)
                if output != "argmax":
                    local = y.to_local() if kind == "dtensor" else y
                    g = upstream[output].to_local() if kind == "dtensor" else upstream[output]
                    total = total + (local * g).nan_to_num().sum()
            total.backward()
            assert logits.grad.placements == logits.placements
            yield f"{name}, {kind}, gradient", apart(logits.grad.full_tensor(), whole)
            one = logprobs(logits.detach(), labels, ignore_index=-100)
            one = one.full_tensor() if kind == "dtensor" else one
            yield f"{name}, {kind}, logprobs", apart(one, stats_of(placed(want["logprob"]), kind))
        yield f"{name}, of", float(VocabShard.of(logits) != expected_shard(logits))


def stats_of(x: DTensor, kind: str) -> torch.Tensor:
    """Whole, or of this rank."""
    return x.full_tensor() if kind == "dtensor" else x.to_local()


def expected_shard(logits: DTensor) -> VocabShard | None:
    """From where the local columns begin, as DTensor itself says."""
    for number, placement in enumerate(logits.placements):
        if placement.is_shard(1):
            group = logits.device_mesh.get_group(number)
            begin = sum(x for x in _widths(logits, group)[: distributed.get_rank(group)])
            return VocabShard(group, begin, V)
    return None


def _widths(logits: DTensor, group: Any) -> list[int]:
    found: list = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(found, logits.to_local().shape[1], group=group)
    return found


def collectives(world: int, rank: int) -> dict[str, list[str]]:
    """What forward and backward passes send: the names of the collectives, and the shapes of what a rank sends."""
    batch, seen = Batch(torch.float32), []
    first, width, _ = place("even", world, rank)
    names = [name for name in dir(distributed) if re.match("all_|reduce|broadcast|send", name)]
    kept = {name: getattr(distributed, name) for name in names}

    def spy(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def spied(out: Any, x: torch.Tensor, *rest: Any, **options: Any) -> Any:
            seen.append(f"{name} {x.numel()} {x.dtype}")
            return call(out, x, *rest, **options)

        return spied

    for name, call in kept.items():
        setattr(distributed, name, spy(name, call))
    found = {}
    for check in (None, False):
        seen.clear()
        x = batch.logits[:, first : first + width].clone().requires_grad_()
        stats = row_stats(x, batch.labels, shard=VocabShard(None, first, V), ignore_index=-100, check=check)
        found[f"forward, check={check}"] = list(seen)
        seen.clear()
        (stats.logprob + stats.entropy).sum().backward()
        found[f"backward, check={check}"] = list(seen)
    for name, call in kept.items():
        setattr(distributed, name, call)
    return found


def compiled(world: int) -> bool:
    """Whether results under torch.compile, which does not look into process groups, are those of eager mode."""
    batch = Batch(torch.float32)
    logits = distribute_tensor(batch.logits, init_device_mesh("cpu", (world,)), [Shard(1)])

    def step(x: torch.Tensor) -> torch.Tensor:
        return 2 * logprobs(x, batch.labels, ignore_index=-100)

    return torch.equal(torch.compile(step, backend="eager")(logits).nan_to_num(), step(logits).nan_to_num())


def errors(world: int, rank: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Calls that are wrong on rank 1 alone, or on all ranks together."""
    batch = Batch(torch.float32)
    block = -(-V // world)
    first = rank * block
    mine, shard = batch.logits[:, first : first + block], VocabShard(None, first, V)
    odd = rank == 1

    right = batch.labels.clamp(0)

    def call(logits: torch.Tensor = mine, labels: torch.Tensor = right, **options: Any) -> Any:
        return row_stats(logits, labels, **{"shard": shard} | options)

    wrong = right.clone()
    wrong[0] = V
    yield "label", lambda: call(labels=wrong if odd else right)
    yield "labels", lambda: call(labels=batch.labels.clamp(1 if odd else 0))
    yield "type", lambda: call(labels=batch.labels.float() if odd else right)
    yield "no tensor", lambda: call([1.0] if odd else mine)
    yield "no axes", lambda: call(mine.sum() if odd else mine)
    yield "rows", lambda: call(mine[1:] if odd else mine, right[1:] if odd else right)
    yield "outputs", lambda: call(outputs=("entropy",) if odd else ("logprob",))
    yield "temperature", lambda: call(temperature=0.5 if odd else 1.0)
    yield "dtype", lambda: call(mine.double() if odd else mine)
    yield "total", lambda: call(shard=VocabShard(None, first, V + odd))
    yield "overlap", lambda: call(shard=VocabShard(None, first - odd, V))
    yield "hole", lambda: call(shard=VocabShard(None, first + odd, V + 1))
    yield "end", lambda: call(shard=VocabShard(None, first, 40))
    yield "checked alone", lambda: VocabShard(None, first - odd, V).check(block)
    yield "function", lambda: logprobs(mine, right, shard=shard) if odd else call(outputs=("logprob",))
    yield "no shard", lambda: call(shard=(first, V))
    mesh = init_device_mesh("cpu", (world,))
    logits = distribute_tensor(batch.logits, mesh, [Shard(1)])
    yield "leaf", lambda: row_stats(logits.detach().requires_grad_(), wrong.clamp(0, 1), inplace_backward=True)
    yield "dtensor and shard", lambda: call(logits)
    yield "partial", lambda: row_stats(DTensor.from_local(batch.logits, mesh, [Partial()]), wrong.clamp(0, 1))
    yield "dtensor labels", lambda: call(labels=distribute_tensor(right, mesh, [Replicate()]))
    labels = distribute_tensor(right, mesh, [Shard(0)])
    yield "placed labels", lambda: row_stats(logits, labels)
    yield "mesh as group", lambda: VocabShard(mesh, 0, V)
    two = distributed.new_group([0])
    yield "no member", lambda: VocabShard(two, 0, V) if odd else None


def caught(call: Callable[[], Any]) -> str:
    """What it raises, in words."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def work(rank: int, world: int, folder: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    # Four processes are there for meshes of two dimensions.
    found = list(compare(world, rank)) if world < 4 else []
    report = {
        "off": {name: off for name, off, _ in found},
        "bits": {name: bits for name, _, bits in found},
        "collectives": collectives(world, rank),
        "dtensors": dict(dtensors(world)),
        "compiled": compiled(world) if world == 2 else None,
        "errors": {name: caught(call) for name, call in errors(world, rank)} if world < 4 else {},
    }
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    # What the first compilation takes, once here, instead of once in each process.
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1])
