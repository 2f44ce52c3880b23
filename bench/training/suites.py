"""Which runs make up a comparison. A run that several suites need is made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.training.run import Plan

SEEDS = (0, 1, 2, 3, 4)
TUNING_SEEDS = (100, 101)
GRID = (5e-5, 1e-4, 2e-4, 4e-4)
#: What the suites that tune have chosen: one learning rate for all arms of a task.
RATES = {"short_sums": 1e-4, "sums": 1e-4, "countdown": 2e-4, "logic": 1e-4, "babyai": 3e-4, "babyai_ball": 3e-4}


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
        rates: learning rates of arms that want another than their task.
        tuning: a suite that chooses settings: all learning rates of ``grid``, other seeds, and the tuning items.
        grid: see ``tuning``.
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
    grid: tuple[float, ...] = GRID
    options: Mapping[str, float] = field(default_factory=dict)

    def plans(self) -> list[Plan]:
        """All runs, seed by seed, so that a suite that is stopped early has whole comparisons."""
        plans = []
        for seed in TUNING_SEEDS if self.tuning else self.seeds:
            for task in self.tasks:
                for arm in self.arms:
                    rates = self.grid if self.tuning else (self.rates.get(arm, RATES[task]),)
                    plans += [
                        Plan(task, arm, seed, learning_rate=r, held_out=not self.tuning, **self.options) for r in rates
                    ]
        return plans


TASKS = ("sums", "countdown", "logic")
PACK = ("sums", "logic")
FLAT = ("grpo", "dr_grpo", "rloo", "rloo_one", "small_rloo", "dapo")
TUNED = (
    *("grpo", "dr_grpo", "rloo", "rloo_one", "dapo"),
    *("spo_tree", "spo_chain", "vineppo", "outside_subtree", "tree_rl", "tree_grpo"),
)
TREES = (
    "grpo",
    "spo_chain",
    "vineppo",
    "spo_tree",
    "outside_subtree",
    "tree_rl",
    "outside_subtree_eptree",
    "tree_grpo",
)
LIKE = (
    *("grpo_token_mean", "dr_grpo", "dapo", "spo_chain", "vineppo", "spo_tree", "outside_subtree"),
    *("tree_rl_token_mean", "outside_subtree_eptree", "tree_grpo"),
)
SELECT = ("grpo", "stratified", "quantile", "d3s_tokens", "random_tokens", "coin")
SAMPLES = ("grpo_16", "random_4of16", "random_4of16_before", "pods", "d3s")
STALE = ("small_grpo", *(f"stale_{name}" for name in ("coupled", "uncorrected", "tis", "mis", "gate", "decoupled")))
WEIGHTS = ("spo_tree", "spo_tree_every", "outside_subtree_once", "outside_subtree")
PROBES = ("grpo", *(f"{name}{of}" for name in ("spo_chain", "vineppo") for of in ("", "_2", "_9", "_one")))
AGENTS = ("agent_grpo", "agent_returns", "gigpo", "gigpo_undiscounted", "hgpo", "hgpo_base", "salt")
AGENT_OPTIONS = {"budget": 30_000, "items": 200, "samples": 1}

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "rates",
            "Learning rates",
            ("sums",),
            TUNED,
            tuning=True,
            grid=(5e-5, 1e-4, 2e-4),
            options={"evaluations": 3},
        ),
        Suite(
            "more_rates",
            "Learning rates on the other tasks",
            ("countdown", "logic"),
            ("grpo", "rloo", "rloo_one", "spo_chain", "tree_rl"),
            tuning=True,
            options={"evaluations": 3},
        ),
        Suite(
            "agent_rates",
            "Learning rates of agents",
            ("babyai",),
            ("agent_grpo", "gigpo"),
            tuning=True,
            grid=(1e-4, 3e-4, 6e-4),
            options=AGENT_OPTIONS,
        ),
        Suite("baselines", "Flat groups", TASKS, FLAT, rates={"rloo_one": 2e-4}),  # fewer updates, and larger
        Suite(
            "aggregation",
            "How the tokens of a loss are weighed",
            TASKS,
            ("grpo", "grpo_token_mean", "tree_rl", "tree_rl_token_mean"),
        ),
        Suite("trees", "Credit on trees and segments", TASKS, TREES),
        Suite(
            "like_for_like", "Credit, with a mean over all tokens in every arm", TASKS, LIKE, baseline="grpo_token_mean"
        ),
        Suite("selection", "Strata, a quantile, some of the tokens", TASKS[:2], SELECT),
        Suite("samples", "A quarter of the rollouts", ("sums",), SAMPLES, baseline="grpo_16"),
        # Few enough prompts for each to come back several times: a budget by what was seen needs to have seen it.
        Suite("budgets", "Rollout budgets, 256 prompts", TASKS[:2], ("grpo", "knapsack"), options={"pool": 256}),
        Suite("stale", "A sampler that lags sixteen updates", ("sums",), STALE, baseline="small_grpo"),
        Suite("weights", "How often a shared token trains", ("sums",), WEIGHTS, baseline="spo_tree"),
        Suite("probes", "How many probes, and updates", ("sums",), PROBES),
        Suite("packed", "Prefix-tree batches", PACK, ("spo_tree_flat", "spo_tree"), baseline="spo_tree_flat"),
        Suite("packed_groups", "Flat groups as prefix-tree batches", PACK, ("grpo", "grpo_packed")),
        Suite(
            "agents",
            "Credit on the steps of agents",
            ("babyai",),
            AGENTS,
            baseline="agent_grpo",
            seeds=tuple(range(10)),  # they differ more than those of single responses
            options=AGENT_OPTIONS,
        ),
        Suite(
            "agents_discount",
            "Credit on the steps of agents, beyond a discount",
            ("babyai",),
            ("agent_returns", "gigpo", "hgpo", "hgpo_base"),
            baseline="agent_returns",
            seeds=tuple(range(10)),
            options=AGENT_OPTIONS,
        ),
        Suite(
            "agents_ball",
            "Credit on the steps of agents, a short task",
            ("babyai_ball",),
            AGENTS,
            baseline="agent_grpo",
            options={**AGENT_OPTIONS, "budget": 8_000, "evaluations": 4},
        ),
        Suite(
            "quick",
            "Flat groups and trees, quickly",
            ("short_sums",),
            ("grpo", "tree_rl", "spo_chain"),
            seeds=(0, 1),
            options={"budget": 120_000, "evaluations": 3, "items": 400},
        ),
    )
}
