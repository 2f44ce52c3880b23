"""Pictures of a suite: a panel an arm with its curve against the baseline's, and the differences at a glance.

Nothing is told by colour alone: the baseline is dashed grey, a clear difference a filled mark.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench.training import stats
from bench.training.curves import Curve
from bench.training.stats import Difference, Runs
from bench.training.suites import Suite
from bench.training.tables import Curves, Titles

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

INK, ARM, BASE, OTHERS = "#222222", "#0072b2", "#777777", "#d0d0d0"
STYLE = {
    "svg.hashsalt": "rollmath",  # the same bytes from the same numbers
    "svg.fonttype": "none",  # text as text: less than half the bytes
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def write(suite: Suite, curves: Curves, titles: Titles, folder: Path, wanted: Callable[[str], bool]) -> list[Path]:
    """``SUITE-TASK.svg`` for each task with finished runs and ``SUITE-differences.svg``, as far as they are wanted."""
    if suite.tuning:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    found = {task: runs for task in suite.tasks if (runs := stats.select(suite, task, curves).runs)}
    out = []
    with plt.rc_context(STYLE):
        for task, runs in found.items():
            if wanted(name := f"{suite.name}-{task}.svg"):
                out.append(_save(learning(runs, suite.baseline, titles, task), folder / name))
        gaps = {task: stats.differences(runs, suite.baseline) for task, runs in found.items()}
        if any(gaps.values()) and wanted(name := f"{suite.name}-differences.svg"):
            out.append(_save(forest(suite, gaps, titles), folder / name))
    return out


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    # A hundredth of a point is enough, and Matplotlib ends some lines with a blank.
    text = re.sub(r'(?<= )(d|x|y)="[^"]*"', lambda m: re.sub(r"(\.\d\d)\d+", r"\1", m[0]), path.read_text("utf-8"))
    path.write_text("".join(f"{line.rstrip()}\n" for line in text.splitlines()), encoding="utf-8")
    return path


def learning(runs: Runs, baseline: str, titles: Titles, task: str) -> Figure:
    """Accuracy against sampled tokens: a panel an arm, with the baseline behind it and the other arms in light grey."""
    panels = [arm for arm in runs if arm != baseline] or list(runs)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1 + 2.3 * columns, 0.5 + 2.1 * rows), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for arm, axis in zip(panels, axes.flat, strict=False):
        for other in runs:
            if other not in (arm, baseline):
                at, mean, _, _ = _band(runs[other])
                axis.plot(at, mean, color=OTHERS, linewidth=0.8)
        if baseline in runs and arm != baseline:
            _draw(axis, runs[baseline], BASE, "--", "")
        _draw(axis, runs[arm], ARM, "-", "o")
        axis.set_title(textwrap.fill(titles.get(arm, arm), 34), fontsize=9, loc="left", color=INK)
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axis.grid(visible=True, color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
    counts = sorted({len(seeds) for seeds in runs.values()})
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    behind = f"; dashed: {titles.get(baseline, baseline)}" if baseline in runs else ""
    figure.suptitle(f"{task}: mean of {seeds}, bootstrap band{behind}", fontsize=9, x=0.01, ha="left")
    figure.supxlabel("sampled tokens (thousands)", fontsize=9)
    figure.supylabel("accuracy, held-out items", fontsize=9)
    return figure


def _band(seeds: Mapping[int, Curve]) -> tuple[NDArray[np.float64], ...]:
    values = np.stack([curve.accuracy for curve in seeds.values()])
    marks = next(iter(seeds.values())).marks / 1000
    return (marks, values.mean(0), *stats.bootstrap(values))


def _draw(axis: Axes, seeds: Mapping[int, Curve], colour: str, line: str, marker: str) -> None:
    at, mean, low, high = _band(seeds)
    axis.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
    axis.plot(at, mean, color=colour, linestyle=line, marker=marker, markersize=3, linewidth=1.4)


def forest(suite: Suite, gaps: Mapping[str, Mapping[str, Difference]], titles: Titles) -> Figure:
    """Differences to the baseline in the mean over the budget, a panel a task.

    Thin lines are Student's intervals, thick ones the bootstrap's; the mark is filled where Student's excludes 0.
    """
    arms = [arm for arm in suite.arms if any(arm in gap for gap in gaps.values())]
    figure, axes = plt.subplots(
        1, len(gaps), figsize=(2 + 2.2 * len(gaps), 0.9 + 0.27 * len(arms)), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for (task, gap), axis in zip(gaps.items(), axes.flat, strict=True):
        axis.axvline(0, color=BASE, linewidth=1, linestyle="--")
        for row, arm in enumerate(arms):
            if arm in gap:
                _mark(axis, row, gap[arm])
        axis.set_title(task, fontsize=9, loc="left")
        axis.grid(visible=True, axis="x", color="#eeeeee", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes[0, 0].set_yticks(range(len(arms)), [textwrap.fill(titles.get(arm, arm), 40) for arm in arms])
    axes[0, 0].set_ylim(len(arms) - 0.4, -0.6)
    baseline = titles.get(suite.baseline, suite.baseline)
    figure.supxlabel(f"mean accuracy over the budget, minus that of {baseline}", fontsize=9)
    return figure


def _mark(axis: Axes, row: int, d: Difference) -> None:
    for interval, width in ((d.student, 1.0), (d.bootstrap, 3.0)):
        if not np.isnan(interval.low):
            axis.plot([interval.low, interval.high], [row, row], color=ARM, linewidth=width, solid_capstyle="butt")
    clear = d.verdict in ("better", "worse")
    axis.plot(d.student.value, row, "o", markersize=5, color=ARM, markerfacecolor=ARM if clear else "white")
