"""One training run: from the checkpoint of the task to the end of the budget, with a line at every evaluation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pickle
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.training import model as models
from bench.training import tasks
from bench.training.arms import Pool, Scene
from bench.training.evaluate import Accuracy, accuracy
from bench.training.sample import Sample
from bench.training.table import ARMS
from bench.training.tasks import Task
from bench.training.update import Progress, Settings, update
from rollmath.demo.clock import Clock

EVALUATION_SEED = 77
STARTS: dict[tuple[Any, ...], Accuracy] = {}
FOUND = ("accuracy", "greedy", "entropy", "length")
LOSS_METRICS = (
    "approx_kl", "clip_high", "clip_low", "gate_high", "gate_low", "importance_high", "importance_low", "over_cap",
    "ratio_max",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Which run: everything that its numbers depend on besides the code."""

    task: str
    arm: str
    seed: int
    budget: int = 200_000
    learning_rate: float = 1e-4
    evaluations: int = 5
    items: int = 600
    samples: int = 2
    pool: int = 1024
    held_out: bool = True

    @property
    def name(self) -> str:
        """A name for files: different for plans that differ."""
        short = f"{self.task}-{self.arm}-lr{self.learning_rate:g}-b{self.budget // 1000}k-s{self.seed}"
        rest = zlib.crc32(repr(self).encode())
        return f"{short}-{rest:08x}" if self.held_out else f"{short}-tuning-{rest:08x}"


def task_of(name: str) -> Any:
    """A task of single responses, or a level for agents."""
    if name in tasks.names():
        return tasks.get(name)
    from bench.training.agents import Agents  # only who plays needs minigrid

    return Agents(name)


class Run:
    """The state of a run; :meth:`lines` goes on with it to the end."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder / plan.name
        if plan.arm not in ARMS:
            msg = f"Run(): 'plan' must have one of the arms {', '.join(ARMS)}, got {plan.arm!r}"
            raise ValueError(msg)
        self.task, self.arm = task_of(plan.task), ARMS[plan.arm]
        self.recipe = self.arm.recipe(self.task)
        self.settings = Settings(**{"learning_rate": plan.learning_rate, **self.arm.settings})
        self.model = models.load(self.task.checkpoint)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        self.past: deque[dict[str, torch.Tensor]] = deque(maxlen=self.arm.lag + 1)
        pool = list(itertools.islice(self.task.stream(plan.seed), plan.pool))
        generator = torch.Generator().manual_seed(plan.seed)
        self.scene = Scene(self.model, self.task, Pool(pool, plan.seed), generator)
        self.clock = Clock()
        self.totals = {
            "sampled_tokens": 0,
            "trained_tokens": 0,
            "signal_tokens": 0,
            "computed_tokens": 0,
            "rollouts": 0,
        }
        self.written: list[dict[str, Any]] = []
        self.recent: list[dict[str, float]] = []

    @property
    def marks(self) -> list[int]:
        """Tokens at which the model is evaluated."""
        return [self.plan.budget * k // self.plan.evaluations for k in range(self.plan.evaluations + 1)]

    def lines(self, progress: Callable[[int, float], None] | None = None) -> Iterator[dict[str, Any]]:
        """Train, and yield a line at each evaluation; those that an earlier attempt has written come first.

        ``progress`` gets the tokens sampled so far and the mean reward of the latest step.
        """
        self._restore()
        yield from self.written
        if not self.written:
            yield self._evaluate()
        while len(self.written) <= self.plan.evaluations:
            reward = self._step()
            if progress is not None:
                progress(self.totals["sampled_tokens"], reward)
            # Over at the step that is nearest to the end of the budget.
            over = self.totals["sampled_tokens"] * (1 + 0.5 / self.scene.step) > self.plan.budget
            if over or self.totals["sampled_tokens"] >= self.marks[len(self.written)]:
                while over and len(self.written) < self.plan.evaluations:  # a step went over several marks
                    self.written.append(self.written[-1])
                    yield self.written[-1]
                yield self._evaluate()

    def _step(self) -> float:
        scene = self.scene
        scene.model = self._sampler()
        with self.clock("sampling"):
            sample = self.arm.draw(scene)
        done = update(self.model, self.optimizer, self.recipe, sample, self.settings, self.clock)
        scene.step += 1
        counts = (sample.sampled, done.trained_tokens, done.signal_tokens, done.computed_tokens, len(sample))
        for name, n in zip(self.totals, counts, strict=True):
            self.totals[name] += n
        self.recent.append(_facts(sample, done))
        return float(sample.rewards.mean())

    def _sampler(self) -> models.CharTransformer:
        """The model that samples: this one, or what it was some steps ago."""
        if not self.arm.lag:
            return self.model
        self.past.append({name: x.clone() for name, x in self.model.state_dict().items()})
        old = models.CharTransformer(self.model.config)
        old.load_state_dict(self.past[0])
        return old

    def _evaluate(self) -> dict[str, Any]:
        items = (self.task.held_out if self.plan.held_out else self.task.tuning)[: self.plan.items]
        with self.clock("evaluation"):
            now = self._accuracy(items)
        line: dict[str, Any] = {**dataclasses.asdict(self.plan), "step": self.scene.step, **self.totals}
        line |= {name: round(x, 6) for name, x in zip(FOUND, now, strict=True) if x is not None}
        if self.recent:
            names = sorted({name for facts in self.recent for name in facts})
            means = {n: float(np.mean([f[n] for f in self.recent if n in f])) for n in names}
            line["train"] = {n: float(f"{x:.6g}") for n, x in means.items()}
        line["seconds"] = {name: round(x, 2) for name, x in self.clock.seconds.items()}
        self.recent = []
        self.written.append(line)
        self._save()
        return line

    def _accuracy(self, items: Sequence[Any]) -> Accuracy:
        # All runs of a task begin with the same model. The likeliest responses are of interest at both ends.
        first, last = not self.written, len(self.written) == self.plan.evaluations
        key = (self.task.name, self.plan.held_out, len(items), self.plan.samples)
        if first and key in STARTS:
            return STARTS[key]
        options = {"seed": EVALUATION_SEED, "samples": self.plan.samples, "greedy": first or last}
        if isinstance(self.task, Task):
            now = accuracy(self.model, self.task, items, **options)
        else:
            now = self.task.accuracy(self.model, items, **options)
        return STARTS.setdefault(key, now) if first else now

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.scene.generator.get_state(),
            "pool": self.scene.pool.at,
            "step": self.scene.step,
            "memory": self.scene.memory,
            "past": list(self.past),
            "totals": self.totals,
            "seconds": dict(self.clock.seconds),
            "lines": json.dumps(self.written),
        }
        new = self.folder / "state.new"
        torch.save(state, new)
        new.replace(self.folder / "state.pt")  # in one move, so that a kill leaves the old one or the new one

    def _restore(self) -> None:
        path = self.folder / "state.pt"
        if not path.exists():
            return
        try:
            state = torch.load(path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scene.generator.set_state(state["generator"])
            self.scene.pool.at, self.scene.step, self.scene.memory = state["pool"], state["step"], state["memory"]
            self.past.extend(state["past"])
            self.totals = state["totals"]
            self.clock.seconds.update(state["seconds"])
            self.written = json.loads(state["lines"])
        except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as wrong:
            msg = f"{path}: not the state of this run; delete it to begin the run again ({str(wrong)[:200]})"
            raise ValueError(msg) from wrong


def _facts(sample: Sample, done: Progress) -> dict[str, float]:
    """Numbers of a training step."""
    written = int(sample.lengths.sum() if sample.mask is None else sample.mask.sum())
    facts = {
        "reward": float(sample.rewards.mean()),
        "entropy": float(sample.entropy.sum()) / written,
        "signal_share": done.signal_tokens / sample.sampled,
        "tokens_a_step": sample.sampled,
    }
    if done.gradient_norms:
        facts["gradient_norm"] = float(np.mean(done.gradient_norms))
    return facts | {name: float(np.mean(values)) for name, values in done.metrics.items() if name in LOSS_METRICS}
