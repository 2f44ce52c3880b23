"""The quick comparison: does the direction of the main finding come out again on this machine?"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console

from bench.training import curves, stats, work
from bench.training.suites import SUITES

#: The first learns more over the budget than the second, by more than what two seeds scatter: see ``docs/evidence.md``.
EXPECTED = (("grpo", "spo_chain"), ("tree_rl", "spo_chain"))


def quick(workers: int, console: Console) -> bool:
    """Make the runs anew, print means over seeds, and say whether each expected direction holds in the mean."""
    suite = SUITES["quick"]
    with tempfile.TemporaryDirectory() as folder:
        states, results = Path(folder, "states"), Path(folder, "results")
        work.run_all(suite.plans(), workers=workers, states=states, results=results, console=console)
        runs = stats.select(suite, suite.tasks[0], curves.read(results)).runs
    means = {arm: sum(curve.mean for curve in seeds.values()) / len(seeds) for arm, seeds in runs.items()}
    for arm, mean in means.items():
        each = ", ".join(f"{curve.mean:.3f}" for curve in runs[arm].values())
        console.print(f"{arm}: mean accuracy over the budget {mean:.3f} (seeds: {each})", highlight=False)
    holds = True
    for more, less in EXPECTED:
        this = means[more] > means[less]
        holds &= this
        console.print(f"{more} above {less}: {'yes' if this else 'NO'}", highlight=False)
    return holds
