"""Run by test_linear_distributed.py: an output layer under FSDP2 and tensor parallelism, beside one process.

``python linear_job.py FOLDER WORLD`` forks processes that talk by gloo; each writes ``FOLDER/WORLD-RANK.json``: how far
results and gradients are from one process, by the name of a case, and errors.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # fully_shard and distribute_tensor import it: once here, instead of once in each process
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked

from rollmath.vocab import LMHead, RowStats, linear_row_stats
from rollmath.vocab._shard import VocabShard

N, H, V = 6, 8, 300
OUTPUTS = ("logprob", "entropy", "sum_p_squared", "mean_logprob", "argmax")
#: Small enough for chunks of rows and of columns.
WORKSPACE = 128 * 8 * 4


class Model(torch.nn.Module):
    """A tied head behind a layer of its own."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(V, H)
        self.body = torch.nn.Linear(H, H)
        self.head = LMHead(H, V, bias=not tied, workspace=WORKSPACE)
        self.double()
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor, labels: torch.Tensor, temperature: Any = 1.0) -> RowStats:
        return self.head.row_stats(
            self.body(self.embed(tokens)).tanh(), labels, outputs=OUTPUTS, temperature=temperature
        )


def loss_of(stats: RowStats, weights: torch.Tensor) -> torch.Tensor:
    return sum((weights * getattr(stats, name)).sum() for name in OUTPUTS if name != "argmax")


def gradients(model: torch.nn.Module) -> torch.Tensor:
    grads = [p.grad for p in model.parameters()]
    return torch.cat([(g.full_tensor() if isinstance(g, DTensor) else g).reshape(-1) for g in grads])


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).abs().max())


class Data:
    """Rows of all ranks; under FSDP each takes its own."""

    def __init__(self, world: int) -> None:
        torch.manual_seed(1)
        self.tokens, self.labels = torch.randint(V, (2, world, N))
        self.weights, self.temperature = torch.rand(2, world, N, dtype=torch.float64) + 0.5


def sharded_data(rank: int, world: int) -> Iterator[tuple[str, float]]:
    """``fully_shard`` over the whole model, over the head alone, and both, resharding after forward."""
    data = Data(world)
    for tied in (False, True):
        alone = Model(tied=tied)
        want = alone(data.tokens, data.labels, data.temperature)
        loss_of(want, data.weights).backward()
        for name in ("model", "head and model") if not tied else ("model",):
            model = Model(tied=tied)
            mesh = init_device_mesh("cpu", (world,))
            if name == "head and model":
                fully_shard(model.head, mesh=mesh, reshard_after_forward=True)
            fully_shard(model, mesh=mesh, reshard_after_forward=True)
            for part in (model, model.head):
                if isinstance(part, FSDPModule):
                    part.set_gradient_divide_factor(1.0)
            for _ in range(2):
                model.zero_grad()
                got = model(data.tokens[rank], data.labels[rank], data.temperature[rank])
                loss_of(got, data.weights[rank]).backward()
            case = f"fsdp2 {name}{', tied' if tied else ''}"
            for output in OUTPUTS:
                yield f"{case}, {output}", apart(getattr(got, output), getattr(want, output)[rank])
            yield f"{case}, gradient", apart(gradients(model), gradients(alone))


def rounded_hooks(rank: int, world: int) -> Iterator[tuple[str, float]]:
    """The hooks of a mixed-precision policy round floating inputs, but not a temperature."""
    head = LMHead(H, V)
    torch.manual_seed(2)
    hidden, temperature = torch.randn(N, H), torch.rand(N) + 0.5
    labels = torch.randint(V, (N,))
    distributed.broadcast(head.weight.data, 0)
    low = LMHead(H, V, dtype=torch.bfloat16)
    low.weight.data.copy_(head.weight.data)
    want = low.row_stats(hidden.bfloat16(), labels, temperature=temperature)
    fully_shard(head, mesh=init_device_mesh("cpu", (world,)), mp_policy=MixedPrecisionPolicy(torch.bfloat16))
    got = head.row_stats(hidden, labels, temperature=temperature)
    yield "fsdp2 mixed precision, logprob", apart(got.logprob, want.logprob)


def sharded_vocabulary(rank: int, world: int) -> Iterator[tuple[str, float]]:
    """Tensor parallel: DTensor weights, and a shard named by hand, of even and of odd sizes."""
    data = Data(world)
    tokens, labels = data.tokens[0], data.labels[0]
    weights, temperature = data.weights[0], data.temperature[0]
    alone = Model()
    want = alone(tokens, labels, temperature)
    loss_of(want, weights).backward()
    mesh = init_device_mesh("cpu", (world,))
    model = Model()
    model.head.parallelize(mesh)
    got = model(tokens, labels, temperature)
    loss_of(got, weights).backward()
    for output in OUTPUTS:
        yield f"parallelize, {output}", apart(getattr(got, output), getattr(want, output))
    yield "parallelize, gradient", apart(gradients(model), gradients(alone))
    hidden = alone.body(alone.embed(tokens)).tanh().detach()
    logits = model.head(hidden)
    assert isinstance(logits, DTensor)
    assert logits.placements == (Shard(-1),) or logits.placements == (Shard(1),)
    yield "parallelize, logits", apart(logits.full_tensor(), alone.head(hidden))
    cuts = {2: [0, 7, V], 3: [0, 0, 290, V]}[world]
    for name, first, stop, padding in (("by hand", cuts[rank], cuts[rank + 1], 3 if rank == world - 1 else 0),):
        weight, bias = alone.head.weight.detach(), alone.head.bias.detach()
        spoiled = torch.full((padding, H), torch.nan, dtype=weight.dtype)
        mine = [
            torch.cat([weight[first:stop], spoiled]) if stop > first else torch.full((2, H), torch.nan).double(),
            torch.cat([bias[first:stop], spoiled[:, 0]]) if stop > first else torch.full((2,), torch.nan).double(),
            hidden,
        ]
        w, b, x = (y.clone().requires_grad_() for y in mine)
        w0, b0, x0 = (y.clone().requires_grad_() for y in (weight, bias, hidden))
        shard = VocabShard(None, V if stop == first else first, V)
        options = {"outputs": OUTPUTS, "temperature": temperature, "workspace": WORKSPACE}
        got = linear_row_stats(x, w, labels, bias=b, shard=shard, **options)
        want = linear_row_stats(x0, w0, labels, bias=b0, **options)
        loss_of(got, weights).backward()
        loss_of(want, weights).backward()
        for output in OUTPUTS:
            yield f"{name}, {output}", apart(getattr(got, output), getattr(want, output))
        yield f"{name}, hidden", apart(x.grad, x0.grad)
        yield f"{name}, weight", apart(w.grad[: stop - first], w0.grad[first:stop]) if stop > first else 0.0
        yield f"{name}, bias", apart(b.grad[: stop - first], b0.grad[first:stop]) if stop > first else 0.0
        yield f"{name}, padding", float(w.grad[stop - first :].abs().sum() + b.grad[stop - first :].abs().sum())


def errors(rank: int, world: int) -> Iterator[tuple[str, str]]:
    mesh = init_device_mesh("cpu", (world,))
    weight = distribute_tensor(torch.zeros(V, H), mesh, [Shard(0)])
    labels = torch.zeros(2, dtype=torch.int64)
    hidden = DTensor.from_local(torch.zeros(2, H), mesh, [Replicate()])

    def caught(call: Callable[[], Any]) -> str:
        try:
            call()
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        return "none"

    yield "plain hidden", caught(lambda: linear_row_stats(torch.zeros(2, H), weight, labels))
    yield "dtensor hidden", caught(lambda: linear_row_stats(hidden, torch.zeros(V, H), labels))
    sideways = distribute_tensor(torch.zeros(V, H), mesh, [Shard(1)])
    yield "sideways", caught(lambda: linear_row_stats(hidden, sideways, labels))
    shard = VocabShard(None, 0, V)
    yield "shard twice", caught(lambda: linear_row_stats(hidden, weight, labels, shard=shard))
    plain = torch.zeros(V)
    yield "plain bias", caught(lambda: linear_row_stats(hidden, weight, labels, bias=plain))
    alone = LMHead(H, V)
    fully_shard(alone, mesh=mesh)
    yield "no gather", caught(lambda: linear_row_stats(torch.zeros(2, H), alone.weight, labels))


def work(rank: int, world: int, folder: str) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    report = {
        "off": dict([*sharded_data(rank, world), *rounded_hooks(rank, world), *sharded_vocabulary(rank, world)]),
        "errors": dict(errors(rank, world)),
    }
    Path(folder, f"{world}-{rank}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1])
