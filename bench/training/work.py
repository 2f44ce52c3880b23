"""Many runs on a few processes, with progress bars; what is finished is kept, what is not goes on where it was."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import machine
from bench.training import curves
from bench.training.run import Plan, Run

Lines = list[dict[str, Any]]
RESULTS = Path(__file__).parents[1] / "results" / "training"
_ORDER = ("task", "arm", "held_out", "learning_rate", "budget", "seed", "step", "sampled_tokens")


def read(folder: Path = RESULTS) -> dict[Plan, Lines]:
    """The finished runs of a folder; a line that is not one of a run raises ValueError with its file and number."""
    return {plan: list(curve.lines) for plan, curve in curves.read(folder).items()}


def write(runs: dict[Plan, Lines], folder: Path = RESULTS) -> None:
    """One file a task, its lines in a fixed order; those of other runs stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    everything = {**read(folder), **runs}
    for task in sorted({plan.task for plan in runs}):
        lines = [line for plan, lines in everything.items() if plan.task == task for line in lines]
        lines.sort(key=lambda line: tuple(line[name] for name in _ORDER))
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        new = folder / f"{task}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(folder / f"{task}.jsonl")


def run_all(plans: Sequence[Plan], *, workers: int, states: Path, results: Path, console: Console) -> None:
    """Make the runs that are not there yet; each is written to ``results`` as soon as it is finished."""
    there = read(results)
    missing = list(dict.fromkeys(plan for plan in plans if plan not in there))
    console.print(f"{len(set(plans))} runs, {len(missing)} of them to be made", highlight=False)
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool,
        Progress(*columns, console=console) as progress,
    ):
        news = manager.Queue()
        whole = progress.add_task("all runs", total=sum(plan.budget for plan in missing), note=f"0 of {len(missing)}")
        listener = threading.Thread(target=_listen, args=(news, progress, whole), daemon=True)
        listener.start()
        waiting = {pool.submit(_work, plan, states, news): plan for plan in missing}
        _collect(waiting, results, progress, whole, news)
        listener.join()


def _begin() -> None:
    """One thread, and an end when the parent has ended, however that came."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work(plan: Plan, states: Path, news: queue.Queue[Any]) -> Lines:
    lines = list(Run(plan, states).lines(lambda tokens, reward: news.put((plan, tokens, reward))))
    where = machine.describe()
    return [{**line, "on": f"{where['cpu']}, torch {torch.__version__}"} for line in lines]


def _collect(
    waiting: dict[Future[Lines], Plan], results: Path, progress: Progress, whole: TaskID, news: queue.Queue[Any]
) -> None:
    """Write each run when it is finished; a run that fails stops those that have not begun."""
    try:
        for number, future in enumerate(as_completed(waiting), 1):
            plan, lines = waiting[future], future.result()
            write({plan: lines}, results)
            first, last = lines[0], lines[-1]
            took = sum(last["seconds"].values())
            progress.console.print(
                f"{plan.name}: accuracy {first['accuracy']:.3f} to {last['accuracy']:.3f} in {took:.0f} s",
                highlight=False,
            )
            progress.update(whole, note=f"{number} of {len(waiting)}")
    finally:
        for future in waiting:
            future.cancel()
        news.put(None)


def _listen(news: queue.Queue[Any], progress: Progress, whole: TaskID) -> None:
    """Show what the processes tell."""
    bars: dict[Plan, TaskID] = {}
    seen: dict[Plan, int] = {}
    for plan, tokens, reward in iter(news.get, None):
        if plan not in bars:
            bars[plan] = progress.add_task(plan.name, total=plan.budget, note="")
        progress.update(whole, advance=tokens - seen.get(plan, 0))
        seen[plan] = tokens
        progress.update(bars[plan], completed=tokens, note=f"reward {reward:.2f}")
        if tokens >= 0.95 * plan.budget:
            progress.update(bars[plan], visible=False)
