"""The table at the end, and the words below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from .run import NAMES, Run


def show(console: Console, runs: Sequence[Run], *, total_seconds: float) -> None:
    """Print one column per run."""
    table = Table(
        title="Same checkpoint, same prompts a step, same budget of sampled tokens",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("")
    for run in runs:
        table.add_column(NAMES[run.method], justify="right")
    rows: list[tuple[str, Callable[[Run], str]]] = [
        ("held-out accuracy before, sampled", lambda run: _percent(run.before.sampled, run.before.sampled_error)),
        ("held-out accuracy after, sampled", lambda run: _percent(run.after.sampled, run.after.sampled_error)),
        ("held-out accuracy before, greedy", lambda run: _percent(run.before.greedy, run.before.greedy_error)),
        ("held-out accuracy after, greedy", lambda run: _percent(run.after.greedy, run.after.greedy_error)),
        ("sampled tokens", lambda run: f"{run.sampled_tokens:,}"),
        ("rollouts / training steps", lambda run: f"{run.rollouts:,} / {len(run.steps)}"),
        ("sampled tokens with a non-zero advantage", lambda run: f"{100 * run.nonzero_share:.1f} %"),
        ("seconds sampling", lambda run: f"{run.clock.seconds['sampling']:.1f}"),
        ("seconds forward, backward, optimiser", lambda run: f"{run.clock.seconds['model']:.1f}"),
        ("seconds in the verifier", lambda run: f"{run.clock.seconds['verifier']:.1f}"),
        ("seconds evaluating", lambda run: f"{run.clock.seconds['evaluation']:.1f}"),
        ("seconds inside rollmath", lambda run: f"{run.clock.seconds['rollmath']:.2f}"),
        ("share of training time inside rollmath", lambda run: f"{100 * run.rollmath_share:.1f} %"),
    ]
    for index, (label, cell) in enumerate(rows):
        table.add_row(label, *(cell(run) for run in runs), end_section=index in (3, 6))
    console.print(table)
    items, samples = runs[0].after.items, runs[0].after.samples
    console.print(
        f"Held-out: {items} items, {samples} samples each at temperature 1; ± is the standard error over items. "
        "A prefix which several rollouts share is sampled, and counted, once. Inside rollmath: groups, forest, "
        "advantages, expansion, rows, and the calls of vocab.logprobs, vocab.row_stats and policy_loss; their "
        f"backward pass is on the side of the model. All together {total_seconds:.0f} s.",
        style="dim",
        highlight=False,
    )
    if len(runs) == 2:
        console.print(verdict(*runs), highlight=False)


def verdict(flat: Run, tree: Run) -> str:
    """Say which method is ahead, or that the difference is within twice its standard error."""
    gap = tree.after.sampled - flat.after.sampled
    error = (tree.after.sampled_error**2 + flat.after.sampled_error**2) ** 0.5
    if abs(gap) < 2 * error:
        points = f"{100 * gap:+.1f} points for the tree, standard error {100 * error:.1f}"
        return f"On this seed there is no clear difference: {points}."
    ahead = "tree (SPO) is" if gap > 0 else "flat groups (GRPO) are"
    return f"On this seed the {ahead} ahead by {100 * abs(gap):.1f} points, standard error {100 * error:.1f}."


def _percent(value: float, error: float) -> str:
    return f"{100 * value:.1f} ± {100 * error:.1f} %"
