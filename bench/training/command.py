"""``python -m bench.training``: pre-train, run suites, write tables and pictures."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bench.training import page, work
from bench.training.pretrain import STAGES, pretrain
from bench.training.quick import quick
from bench.training.run import Plan
from bench.training.suites import SUITES

LEVELS = ("babyai", "babyai_ball")  # those of agents.py


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(prog="python -m bench.training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pre = commands.add_parser("pretrain", help="make the checkpoint of a task again")
    pre.add_argument("task", choices=[*STAGES, *LEVELS])
    pre.add_argument("--seed", type=int, default=0)
    run = commands.add_parser("run", help="make the runs of suites that are not in the results yet")
    run.add_argument("suite", nargs="+", choices=[*SUITES, "all"])
    run.add_argument("--workers", type=positive, default=2, help="processes, of one thread each (default: 2)")
    run.add_argument("--states", type=Path, default=Path(".training"), help="where unfinished runs are kept")
    run.add_argument("--results", type=Path, default=work.RESULTS, help="where the lines go")
    run.add_argument("--seeds", type=positive, help="only the first so many seeds")
    run.add_argument("--budget", type=positive, help="sampled tokens of a run, in place of what the suite says")
    run.add_argument("--task", action="append", help="only this task of the suites (may be repeated)")
    run.add_argument("--arm", action="append", help="only this arm of the suites (may be repeated)")
    short = commands.add_parser("quick", help="a small comparison, whose direction must be that of docs/evidence.md")
    short.add_argument("--workers", type=positive, default=2, help="processes, of one thread each (default: 2)")
    made = commands.add_parser("page", help="put tables and pictures of the results into docs/evidence.md")
    made.add_argument("--check", action="store_true", help="only say what is not as the results give it")
    options = parser.parse_args(argv)
    if options.command == "run":
        try:
            options.plans = plans_of(options)
        except ValueError as wrong:
            run.error(str(wrong))
    return options


def positive(text: str) -> int:
    """A whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        msg = f"must be a whole number from 1, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return number


def plans_of(options: argparse.Namespace) -> list[Plan]:
    """The runs that the options of ``run`` ask for.

    Raises:
        ValueError: a task or an arm that none of the suites has, or no run at all.
    """
    wanted = list(SUITES) if "all" in options.suite else list(dict.fromkeys(options.suite))
    plans = [plan for name in wanted for plan in SUITES[name].plans()]
    for name in ("task", "arm"):
        there = list(dict.fromkeys(getattr(plan, name) for plan in plans))
        if unknown := [x for x in getattr(options, name) or () if x not in there]:
            msg = f"--{name} must be one of {', '.join(there)} for {' '.join(wanted)}, got {', '.join(unknown)}"
            raise ValueError(msg)
    if options.seeds is not None:  # of each suite: those that tune have others
        first = {x for name in wanted for x in sorted({plan.seed for plan in SUITES[name].plans()})[: options.seeds]}
        plans = [plan for plan in plans if plan.seed in first]
    if options.budget is not None:
        plans = [dataclasses.replace(plan, budget=options.budget) for plan in plans]
    plans = [plan for plan in plans if not options.task or plan.task in options.task]
    plans = [plan for plan in plans if not options.arm or plan.arm in options.arm]
    if not plans:
        msg = "no suite has a run of these tasks with these arms"
        raise ValueError(msg)
    return plans


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return the exit status."""
    options, console = parse(argv), Console()
    torch.set_num_threads(1)
    if options.command == "pretrain":
        if options.task in LEVELS:
            from bench.training.agents_pretrain import pretrain_agents  # only who plays needs minigrid

            pretrain_agents(options.task, seed=options.seed)
        else:
            pretrain(options.task, seed=options.seed)
        return 0
    if options.command == "quick":
        return 0 if quick(options.workers, console) else 1
    if options.command == "page":
        return page.main(["--check"] if options.check else [])
    work.run_all(
        options.plans, workers=options.workers, states=options.states, results=options.results, console=console
    )
    return 0
