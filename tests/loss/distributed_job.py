"""Run by test_distributed.py: the gradients of a step on several processes, under DDP and FSDP2, beside one process.

``python distributed_job.py FOLDER 2 4`` forks 2, then 4 processes that talk by gloo, and writes ``FOLDER/2.json`` and
``FOLDER/4.json``: the largest difference relative to the gradient of one process, by case.
"""

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

sys.path.append(str(Path(__file__).parents[1] / "reference"))

import forked
from loss_objectives import ALL, TERMS, made

from rollmath import LogProbs, Rows
from rollmath.loss import (
    KL,
    PPO,
    Aggregation,
    EntropyBonus,
    Gate,
    ImportanceWeight,
    LossMetrics,
    Normalizer,
    Objective,
    aggregate,
    policy_loss,
    value_loss,
)
from rollmath.loss._aggregate import AGGREGATIONS

AGGREGATED = {**{name: name for name in AGGREGATIONS}, "dr_grpo": Aggregation(unit="row", within="sum", divisor=64)}


#: A case that is no policy loss: what a critic and an auxiliary loss call.
VALUES = "value_loss and aggregate"

#: What a case has beside its objective, in turn.
EXTRAS: list[dict[str, Any]] = [
    {},
    {"kl": KL(0.1)},
    {"correction": ImportanceWeight(2.0)},
    {"kl": KL(0.1, kind="k2"), "correction": (ImportanceWeight(2.0, level="rollout"), Gate("k1", 1.0, level="row"))},
]


def objectives() -> dict[str, Objective | None]:
    """All of them, in all ways, and one case without."""
    assert {"KL"} == TERMS
    return {f"{name} {way}": made(name, way) for name, way in ALL} | {VALUES: None}


class Model(torch.nn.Module):
    """Log-probabilities, entropies and values of tokens, each given the one before it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, 4)
        self.head = torch.nn.Linear(4, vocabulary)

    def forward(self, before: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = self.head(self.embed(before))
        logp = logits.log_softmax(-1)
        return logp.gather(1, tokens[:, None]).sum(-1), -(logp.exp() * logp).sum(-1), logits.mean(-1)


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
            theta, _, _ = Model(11).double()(self.before, self.tokens)
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

    def micro_batches(self, world: int, rank: int, seed: int) -> list[np.ndarray]:
        """Two micro-batches of a rank, of whole rollouts at random; some have none. The last rank has as ever."""
        rng = np.random.default_rng([seed, world])
        rank_of = np.where(self.rank_of == world - 1, world - 1, rng.integers(0, world - 1, 12))
        second = rng.random(12) < 0.5
        return [np.flatnonzero((rank_of == rank) & (second == late)) for late in (False, True)]

    def prepared(
        self, model: torch.nn.Module, micro: list[np.ndarray], objective: Objective, share: Callable[[Any], list[Any]]
    ) -> Objective:
        """An objective that knows the whole step, if it must: the first pass, and what all ranks found in it."""
        if objective.coupling != "batch":
            return objective
        parts = []
        for rollouts in micro:
            rows, at = self.part(rollouts)
            with torch.no_grad():
                theta = model(self.before[at], self.tokens[at])[0]
            logprobs = LogProbs(theta, *(x[at] for x in self.others))
            parts.append(objective.prepare(logprobs, self.advantages(rows), rows, level="rollout"))
        return objective.with_parts([part for found in share(parts) for part in found])

    def advantages(self, rows: Rows) -> list[float]:
        """Of the rollouts of some rows."""
        return [self.advantage[key] for key in rows.rollouts.ids]

    def loss(
        self, model: torch.nn.Module, rollouts: np.ndarray, objective: Objective | None, **options: Any
    ) -> tuple[torch.Tensor, LossMetrics]:
        """Of one micro-batch."""
        rows, at = self.part(rollouts)
        theta, entropy, value = model(self.before[at], self.tokens[at])
        if objective is None:
            common = {name: options[name] for name in ("normalizer", "aggregation")}
            old = self.others[0][at]
            out = value_loss(value, self.advantages(rows), rows, old_values=old, clip=0.2, level="rollout", **common)
            return out.loss + aggregate(theta.square(), rows, coef=0.3, **common), out.metrics
        if isinstance(objective, KL):
            options["kl"], objective = objective, PPO()
        out = policy_loss(
            LogProbs(theta, *(x[at] for x in self.others)),
            self.advantages(rows),
            rows,
            objective,
            level="rollout",
            entropy=EntropyBonus(entropy, coef=0.01),
            **options,
        )
        return out.loss, out.metrics

    def backward(
        self,
        model: torch.nn.Module,
        micro: list[np.ndarray],
        objective: Objective | None,
        sync: Callable[[bool], None],
        **options: Any,
    ) -> LossMetrics:
        """One backward for each micro-batch, divided as a trainer divides."""
        seen = []
        for number, rollouts in enumerate(micro):
            sync(number == len(micro) - 1)
            value, metrics = self.loss(model, rollouts, objective, **options)
            seen.append(metrics)
            (value / options["normalizer"].accumulation).backward()
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


def work(rank: int, world: int, folder: str, made: dict[str, Objective | None]) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world)
    step = Step(world)
    mine = np.flatnonzero(step.rank_of == rank)
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
    known: dict[tuple[str, str], Objective | None] = {}
    cases = product(made.items(), AGGREGATED.items())
    for number, ((name, objective), (label, aggregation)) in enumerate(cases):
        alone.zero_grad()
        everything = [np.arange(12)]
        case = EXTRAS[number % len(EXTRAS)] | {"aggregation": aggregation}
        if (name, "alone") not in known and objective is not None:
            known[name, "alone"] = step.prepared(alone, everything, objective, lambda x: [x])
        expected = step.backward(
            alone, everything, known.get((name, "alone")), lambda _: None, normalizer=whole, **case
        )
        largest = float(flat(alone).abs().max())
        # Each wrapper for each case, averaging or adding: with two processes the one, with four the other.
        for kind, reduce in wrappers:
            if name != "PPO 0" and ((kind == "ddp") == (reduce == "mean")) != ((number + world // 2) % 2 == 0):
                continue
            model, sync = models[kind, reduce]
            # Before the first pass, which leaves FSDP2 with whole parameters, not the shards that have the gradients.
            model.zero_grad()
            micro = step.micro_batches(world, rank, number)
            if (name, kind) not in known and objective is not None:
                known[name, kind] = step.prepared(model, micro, objective, everywhere)
            norm = gathered.under(grad_reduce=reduce, ranks=world, accumulation=len(micro))
            metrics = step.backward(model, micro, known.get((name, kind)), sync, normalizer=norm, **case)
            off = float((flat(model) - flat(alone)).abs().max())
            report["gradients"][f"{kind}, {reduce}, {name}, {label}"] = off / largest if largest > 0 else float("inf")
            merged = LossMetrics.merge(everywhere(metrics))
            apart = float((merged.values_tensor - expected.values_tensor).abs().max())
            report["metrics"][f"{kind}, {reduce}, {name}, {label}"] = apart
    if rank == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(report))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    cases = objectives()
    for size in sys.argv[2:]:
        forked.run(work, int(size), sys.argv[1], cases)
