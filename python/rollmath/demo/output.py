"""What the demo writes: every rollout as a line of JSON, and the learning curves as a table and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import matplotlib

from .run import NAMES, Run, Step
from .tasks import decode

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"grpo": "#d1603d", "spo": "#2a6f97"}


class RolloutFile:
    """Writes ``rollouts.jsonl``: one rollout a line, in the order in which they were sampled."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> RolloutFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, method: str, step: Step) -> None:
        """Append the rollouts of one training step."""
        for rollout in range(len(step.rewards)):
            self._file.write(json.dumps(self._record(method, step, rollout), separators=(",", ":")) + "\n")

    @staticmethod
    def _record(method: str, step: Step, rollout: int) -> dict[str, Any]:
        rollouts, group = step.rollouts, int(step.rollouts.group[rollout])
        response = rollouts.response(rollout)
        record: dict[str, Any] = {
            "method": method,
            "step": step.number,
            "group": f"{method}-{step.number}-{group}",
            "rollout": rollout,
            "prompt": decode(rollouts.items[group].prompt).strip(),
            "text": decode(response),
            "answer": rollouts.items[group].entry["answer"],
            "reward": float(step.rewards[rollout]),
            "tokens": response,
            "logprobs": [round(x, 6) for x in rollouts.logprobs[rollout, : len(response)].tolist()],
        }
        if rollouts.tree is None:
            record["advantage"] = round(float(step.credit.natural[rollout]), 6)
        else:
            path = rollouts.tree.path(rollout)
            record["path"] = path
            record["segments"] = [int(n) for n in rollouts.tree.length[path[1:]]]
            record["advantage"] = [round(float(x), 6) for x in step.credit.natural[path[1:]]]
        return record


def write_curves(runs: Sequence[Run], folder: Path) -> None:
    """Write ``curves.csv`` (one line a training step), ``held_out.csv`` and the picture of both, ``curves.png``."""
    with (folder / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["method", "step", "sampled_tokens", "rollouts", "accuracy", "entropy", "nonzero_share"])
        for run in runs:
            for point in run.steps:
                numbers = [f"{x:.6g}" for x in (point.accuracy, point.entropy, point.nonzero_share)]
                table.writerow([run.method, point.number, point.sampled_tokens, point.rollouts, *numbers])
    with (folder / "held_out.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["method", "sampled_tokens", "accuracy", "standard_error"])
        for run in runs:
            table.writerows([run.method, tokens, f"{a:.6g}", f"{error:.6g}"] for tokens, a, error in run.held_out)
    _draw_curves(runs, folder / "curves.png")


def _draw_curves(runs: Sequence[Run], path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(3, 2))
    for run in runs:
        colour = COLOURS[run.method]
        tokens = [point.sampled_tokens / 1000 for point in run.steps]
        left.plot(tokens, [100 * point.accuracy for point in run.steps], color=colour, alpha=0.35, linewidth=1)
        at, accuracy, error = (list(column) for column in zip(*run.held_out, strict=True))
        left.errorbar(
            [x / 1000 for x in at],
            [100 * x for x in accuracy],
            [100 * x for x in error],
            color=colour,
            marker="o",
            markersize=5,
            capsize=3,
            linewidth=2,
            label=f"{NAMES[run.method]}, held-out ± standard error",
        )
        right.plot(
            tokens,
            [100 * point.nonzero_share for point in run.steps],
            color=colour,
            linewidth=2,
            label=NAMES[run.method],
        )
    left.set(
        xlabel="sampled tokens (thousands)", ylabel="accuracy of samples, %", title="Accuracy (thin: training prompts)"
    )
    left.legend(frameon=False, loc="lower right")
    right.legend(frameon=False, loc="lower right")
    right.set(xlabel="sampled tokens (thousands)", title="Sampled tokens with a non-zero advantage, %", ylim=(0, 105))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
