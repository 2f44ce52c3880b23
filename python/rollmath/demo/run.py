"""Training runs: the same checkpoint, the same budget of sampled tokens, one method or the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from .clock import Clock
from .evaluate import Accuracy, evaluate
from .model import CharTransformer
from .sample import Rollouts, sample_flat, sample_tree
from .tasks import Item, Tasks
from .train import Credit, FloatArray, credit_flat, credit_tree, update

NAMES = {"grpo": "flat groups, GRPO", "spo": "trees, SPO"}
_TRAINING = ("sampling", "verifier", "rollmath", "model")


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on besides the checkpoint, the method and the seed."""

    budget: int = 480_000
    prompts: int = 64
    flat_size: int = 8
    branching: tuple[int, ...] = (4, 2, 2)
    segment: int = 9
    minibatches: int = 4
    learning_rate: float = 6e-5
    evaluations: int = 4
    items: int = 600
    samples: int = 2


@dataclass(frozen=True)
class Step:
    """One training step: the rollouts, what they earned, and who got the credit."""

    number: int
    rollouts: Rollouts
    rewards: FloatArray
    credit: Credit
    entropy: float


@dataclass(frozen=True)
class Point:
    """One training step on the learning curve; the tokens and rollouts are all those up to here."""

    number: int
    sampled_tokens: int
    rollouts: int
    accuracy: float
    entropy: float
    nonzero_share: float


@dataclass
class Run:
    """The history of one run; ``held_out`` has (sampled tokens, accuracy of samples, standard error)."""

    method: str
    before: Accuracy
    after: Accuracy
    held_out: list[tuple[int, float, float]]
    clock: Clock = field(default_factory=Clock)
    steps: list[Point] = field(default_factory=list)
    sampled_tokens: int = 0
    nonzero_tokens: int = 0
    rollouts: int = 0

    @property
    def nonzero_share(self) -> float:
        """Share of the sampled tokens which had a non-zero advantage."""
        return self.nonzero_tokens / self.sampled_tokens

    @property
    def rollmath_share(self) -> float:
        """Share of the time of training (not of evaluation or drawing) inside rollmath."""
        return self.clock.seconds["rollmath"] / sum(self.clock.seconds[name] for name in _TRAINING)

    def add(self, step: Step) -> Point:
        """Account for a step."""
        share = step.credit.nonzero_tokens / step.rollouts.sampled_tokens
        self.sampled_tokens += step.rollouts.sampled_tokens
        self.nonzero_tokens += step.credit.nonzero_tokens
        self.rollouts += len(step.rewards)
        value = float(step.credit.value.mean())
        self.steps.append(Point(step.number, self.sampled_tokens, self.rollouts, value, step.entropy, share))
        return self.steps[-1]


class Trainer:
    """A model, its optimiser and its random numbers; :meth:`step` samples, scores and learns."""

    def __init__(self, method: str, model: CharTransformer, tasks: Tasks, settings: Settings, seed: int) -> None:
        self.method, self.model, self.tasks, self.settings, self.seed = method, model, tasks, settings, seed
        self.stream = tasks.stream(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )

    def step(self, number: int, clock: Clock) -> Step:
        """Take one training step."""
        settings, flat = self.settings, self.method == "grpo"
        items = list(itertools.islice(self.stream, settings.prompts))
        with clock("sampling"):
            rollouts = self._sample(items)
        with clock("verifier"):
            groups = rollouts.group.tolist()
            rewards = np.array([self.tasks.reward(items[g], rollouts.response(r)) for r, g in enumerate(groups)])
        credit = credit_flat(rollouts, rewards, clock) if flat else credit_tree(rollouts, rewards, clock)
        entropy = update(self.model, self.optimizer, rollouts, credit, settings.minibatches, clock)
        return Step(number, rollouts, rewards, credit, entropy)

    def evaluate(self, samples: int) -> Accuracy:
        """Held-out accuracy of the model as it is now."""
        return evaluate(self.model, self.tasks, seed=self.seed, items=self.settings.items, samples=samples)

    def _sample(self, items: list[Item]) -> Rollouts:
        settings = self.settings
        if self.method == "grpo":
            return sample_flat(self.model, items, settings.flat_size, self.generator)
        return sample_tree(self.model, items, settings.branching, settings.segment, self.generator)


def train(
    trainer: Trainer,
    before: Accuracy,
    *,
    watch: Callable[[Step], None],
    progress: Callable[[int, float], None],
) -> Run:
    """Train until the budget is spent, to the nearest step.

    ``watch`` gets every step, ``progress`` the tokens sampled so far and the accuracy on the latest prompts.
    """
    settings = trainer.settings
    run = Run(trainer.method, before, before, [(0, before.sampled, before.sampled_error)])
    marks = [settings.budget * k // settings.evaluations for k in range(1, settings.evaluations)]
    for number in itertools.count(1):
        step = trainer.step(number, run.clock)
        point = run.add(step)
        watch(step)
        progress(run.sampled_tokens, point.accuracy)
        if run.sampled_tokens * (1 + 0.5 / number) > settings.budget:
            break
        if marks and run.sampled_tokens >= marks[0]:
            marks.pop(0)
            with run.clock("evaluation"):
                now = trainer.evaluate(1)
            run.held_out.append((run.sampled_tokens, now.sampled, now.sampled_error))
    with run.clock("evaluation"):
        run.after = trainer.evaluate(settings.samples)
    run.held_out.append((run.sampled_tokens, run.after.sampled, run.after.sampled_error))
    return run
