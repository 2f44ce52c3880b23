"""Run by test_distributed.py: the gradients of a step on several processes, under DDP and FSDP2, beside one process.

``python distributed_job.py FOLDER 2 4`` forks 2, then 4 processes that talk by gloo, and writes ``FOLDER/2.json`` and
``FOLDER/4.json``: the largest difference relative to the gradient of one process, by case.
"""

import json
import multiprocessing
import runpy
import sys
from collections.abc import Callable
from itertools import product
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from rollmath import LogProbs, Rows, loss
from rollmath.loss import Aggregation, EntropyBonus, LossMetrics, Normalizer, Objective, policy_loss
from rollmath.loss._aggregate import AGGREGATIONS

AGGREGATED = {**{name: name for name in AGGREGATIONS}, "dr_grpo": Aggregation(unit="row", within="sum", divisor=64)}


def objectives() -> dict[str, Objective]:
    """Those of test_partition.py but for terms, and what needs two passes."""
    table = runpy.run_path(str(Path(__file__).with_name("test_partition.py")))
    made = {f"{name} {way}": table["ways"](name)[way](getattr(loss, name)) for name, way in table["ALL"]}
    return {
        label: objective
        for label, objective in made.items()
        if label.split()[0] not in table["TERMS"] and objective.coupling != "batch"
    }


class Model(torch.nn.Module):
    """Log-probabilities and entropies of tokens, each given the one before it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, 4)
        self.head = torch.nn.Linear(4, vocabulary)

    def forward(self, before: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logp = self.head(self.embed(before)).log_softmax(-1)
        return logp.gather(1, tokens[:, None]).sum(-1), -(logp.exp() * logp).sum(-1)


class Step:
    """The step of all ranks: each makes the same, and takes its own rows."""

    def __init__(self, world: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rollouts = rng.permutation(np.repeat(np.arange(12), rng.integers(1, 4, 12)))
        lengths = rng.integers(0, 9, len(rollouts))
        total = int(lengths.sum())
        # The last rank has the rows of two rollouts, but nothing trained.
        self.rank_of = rng.integers(0, world - 1, 12)
        self.rank_of[:2] = world - 1
        mask = (rng.random(total) < 0.8) & (np.repeat(rollouts, lengths) > 1)
        self.rows = Rows([f"r{i}" for i in rollouts], lengths, mask=mask, version=rng.integers(0, 3, total))
        self.number_of_row = rollouts
        self.tokens = torch.from_numpy(rng.integers(0, 11, total))
        self.before = torch.from_numpy(rng.integers(0, 11, total))
        self.prompt = {f"r{i}": int(rng.integers(0, 4)) for i in range(12)}
        self.advantage = {f"r{i}": float(rng.uniform(-1, 1)) for i in range(12)}
        torch.manual_seed(seed)
        with torch.no_grad():
            theta, _ = Model(11).double()(self.before, self.tokens)
        self.others = [theta + 0.3 * torch.from_numpy(rng.standard_normal(total)) for _ in range(3)]

    def part(self, rollouts: np.ndarray) -> tuple[Rows, np.ndarray]:
        """The rows of some rollouts, by number, and their positions."""
        picked = np.flatnonzero(np.isin(self.number_of_row, rollouts))
        offsets = self.rows.offsets
        at = [np.arange(offsets[i], offsets[i + 1]) for i in picked]
        return self.rows.take(picked), np.concatenate(at or [np.zeros(0)]).astype(np.int64)

    def local(self, rows: Rows) -> Normalizer:
        """Of some rows alone."""
        return Normalizer.local(rows, prompts=[self.prompt[key] for key in rows.rollouts.ids])

    def backward(
        self,
        model: torch.nn.Module,
        micro: list[np.ndarray],
        objective: Objective,
        aggregation: str | Aggregation,
        norm: Normalizer,
        sync: Callable[[bool], None],
    ) -> LossMetrics:
        """One backward for each micro-batch, divided as a trainer divides."""
        seen = []
        for number, rollouts in enumerate(micro):
            rows, at = self.part(rollouts)
            sync(number == len(micro) - 1)
            theta, entropy = model(self.before[at], self.tokens[at])
            out = policy_loss(
                LogProbs(theta, *(x[at] for x in self.others)),
                [self.advantage[key] for key in rows.rollouts.ids],
                rows,
                objective,
                normalizer=norm,
                aggregation=aggregation,
                level="rollout",
                entropy=EntropyBonus(entropy, coef=0.01),
            )
            seen.append(out.metrics)
            (out.loss / norm.accumulation).backward()
        return LossMetrics.merge(seen)


def flat(model: torch.nn.Module) -> torch.Tensor:
    """The gradient of all parameters, whole."""
    grads = [p.grad for p in model.parameters()]
    return torch.cat([(g.full_tensor() if hasattr(g, "full_tensor") else g).reshape(-1) for g in grads])


def summed(state: object, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """A communication hook of DDP that adds gradients instead of averaging them."""
    work = distributed.all_reduce(bucket.buffer(), async_op=True).get_future()
    return work.then(lambda done: done.value()[0])


def wrapped(kind: str, reduce: str, world: int) -> tuple[torch.nn.Module, Callable[[bool], None]]:
    """A model under a wrapper, and what tells it whether the backward that follows is the last of the step."""
    torch.manual_seed(1)
    model = Model(11).double()
    if kind == "fsdp2":
        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
        if reduce == "sum":
            model.set_gradient_divide_factor(1.0)
        return model, model.set_requires_gradient_sync
    made = DistributedDataParallel(model)
    if reduce == "sum":
        made.register_comm_hook(None, summed)

    def sync(last: bool) -> None:
        made.require_backward_grad_sync = last

    return made, sync


def everywhere(x: object) -> list:
    """What each rank has."""
    found: list = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, x)
    return found


def work(rank: int, world: int, folder: str, made: dict[str, Objective]) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    step = Step(world)
    mine = np.flatnonzero(step.rank_of == rank)
    # Two micro-batches on each rank, with different numbers of tokens.
    micro = [mine[:1], mine[1:]]
    rows = step.part(mine)[0]
    gathered, whole = Normalizer.gather(step.local(rows)), step.local(step.rows)
    report: dict = {
        "tokens": everywhere(int(rows.trained.sum())),
        "batch ids": [whole.batch_id, *everywhere(gathered.batch_id)],
        "gathered": everywhere(gathered == whole),
        "gradients": {},
        "metrics": {},
    }
    torch.manual_seed(1)
    alone = Model(11).double()
    wrappers = list(product(("ddp", "fsdp2"), ("mean", "sum")))
    models = {way: wrapped(*way, world) for way in wrappers}
    for number, ((name, objective), (label, aggregation)) in enumerate(product(made.items(), AGGREGATED.items())):
        alone.zero_grad()
        case = (objective, aggregation)
        expected = step.backward(alone, [np.arange(12)], *case, whole, lambda _: None)
        largest = float(flat(alone).abs().max())
        # All ways for one objective; for the others they take turns.
        for way in wrappers if name == "PPO 0" else [wrappers[number % len(wrappers)]]:
            model, sync = models[way]
            model.zero_grad()
            norm = gathered.under(grad_reduce=way[1], ranks=world, accumulation=len(micro))
            metrics = step.backward(model, micro, *case, norm, sync)
            off = float((flat(model) - flat(alone)).abs().max())
            report["gradients"][", ".join((*way, name, label))] = off / largest if largest > 0 else float("inf")
        merged = LossMetrics.merge(everywhere(metrics))
        report["metrics"][f"{name}, {label}"] = float((merged.values_tensor - expected.values_tensor).abs().max())
    if rank == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


def main(folder: str, worlds: list[int]) -> None:
    """Forks, so that torch is imported once. If one process fails, the others, which wait for it, are ended."""
    context, made = multiprocessing.get_context("fork"), objectives()
    for world in worlds:
        processes = [context.Process(target=work, args=(r, world, folder, made)) for r in range(world)]
        for process in processes:
            process.start()
        while running := [process for process in processes if process.is_alive()]:
            wait([process.sentinel for process in running])
            if any(process.exitcode for process in processes):
                for process in running:
                    process.terminate()
        if any(process.exitcode for process in processes):
            sys.exit(f"exit codes {[process.exitcode for process in processes]} of {world} processes")


if __name__ == "__main__":
    main(sys.argv[1], [int(x) for x in sys.argv[2:]])
