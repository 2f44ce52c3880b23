"""``python -m bench.training``: pre-train, run suites, write tables and pictures."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bench.training import page, tasks, work
from bench.training.pretrain import pretrain
from bench.training.quick import quick
from bench.training.suites import SUITES


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pre = commands.add_parser("pretrain", help="make the checkpoint of a task again")
    pre.add_argument("task", choices=tasks.names())
    pre.add_argument("--seed", type=int, default=0)
    run = commands.add_parser("run", help="make the runs of suites that are not in the results yet")
    run.add_argument("suite", nargs="+", choices=[*SUITES, "all"])
    run.add_argument("--workers", type=int, default=2, help="processes, of one thread each (default: 2)")
    run.add_argument("--states", type=Path, default=Path(".training"), help="where unfinished runs are kept")
    run.add_argument("--results", type=Path, default=work.RESULTS, help="where the lines go")
    run.add_argument("--seeds", type=int, help="only the first so many seeds")
    run.add_argument("--budget", type=int, help="sampled tokens of a run, in place of what the suite says")
    run.add_argument("--task", action="append", help="only this task (may be repeated)")
    run.add_argument("--arm", action="append", help="only this arm (may be repeated)")
    short = commands.add_parser("quick", help="a small comparison, whose direction must be that of docs/evidence.md")
    short.add_argument("--workers", type=int, default=2, help="processes, of one thread each (default: 2)")
    made = commands.add_parser("page", help="put tables and pictures of the results into docs/evidence.md")
    made.add_argument("--check", action="store_true", help="only say what is not as the results give it")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options, console = parse(argv), Console()
    torch.set_num_threads(1)
    if options.command == "pretrain":
        pretrain(options.task, seed=options.seed)
        return 0
    if options.command == "quick":
        return 0 if quick(options.workers, console) else 1
    if options.command == "page":
        return page.main(["--check"] if options.check else [])
    wanted = list(SUITES) if "all" in options.suite else options.suite
    plans = [plan for name in wanted for plan in SUITES[name].plans()]
    if options.seeds is not None:
        first = {plan.seed for name in wanted for plan in SUITES[name].plans()}
        plans = [plan for plan in plans if plan.seed in sorted(first)[: options.seeds]]
    if options.budget is not None:
        plans = [dataclasses.replace(plan, budget=options.budget) for plan in plans]
    plans = [plan for plan in plans if not options.task or plan.task in options.task]
    plans = [plan for plan in plans if not options.arm or plan.arm in options.arm]
    work.run_all(plans, workers=options.workers, states=options.states, results=options.results, console=console)
    return 0
