"""Which runs make up a comparison. A run that several suites need is made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.training.run import Plan

SEEDS = (0, 1, 2, 3, 4)
TUNING_SEEDS = (100, 101)
RATES = (5e-5, 1e-4, 2e-4, 4e-4)


@dataclass(frozen=True)
class Suite:
    """Arms that are compared, on some tasks.

    Attributes:
        name: as in commands and files.
        title: of its tables.
        tasks: names.
        arms: names, in the order of the table.
        baseline: the arm that the others are compared with, seed by seed.
        seeds: of the runs.
        rates: learning rates of arms other than the default; or all to be run, where ``tuning``.
        tuning: a suite that chooses settings: all ``RATES``, other seeds, and the tuning items.
        options: fields of all plans.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    arms: tuple[str, ...]
    baseline: str = "grpo"
    seeds: tuple[int, ...] = SEEDS
    rates: Mapping[str, float] = field(default_factory=dict)
    tuning: bool = False
    options: Mapping[str, float] = field(default_factory=dict)

    def plans(self) -> list[Plan]:
        """All runs, seed by seed, so that a suite that is stopped early has whole comparisons."""
        plans = []
        for seed in TUNING_SEEDS if self.tuning else self.seeds:
            for task in self.tasks:
                for arm in self.arms:
                    rates = RATES if self.tuning else (self.rates.get(arm, Plan.learning_rate),)
                    plans += [
                        Plan(task, arm, seed, learning_rate=r, held_out=not self.tuning, **self.options) for r in rates
                    ]
        return plans


TASKS = ("sums", "countdown", "logic")

SUITES = {
    suite.name: suite
    for suite in (
        Suite("baselines", "Flat groups", TASKS, ("grpo", "dr_grpo", "rloo", "dapo")),
        Suite(
            "quick",
            "Flat groups and trees, quickly",
            ("short_sums",),
            ("grpo", "dr_grpo", "spo_tree_packed"),
            seeds=(0, 1),
            options={"budget": 200_000, "evaluations": 4, "items": 400},
        ),
    )
}
