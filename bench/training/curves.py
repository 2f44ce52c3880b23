"""Learning curves from the lines of runs, at equal numbers of sampled tokens."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.training.run import Plan

DIAGNOSTICS = "diagnostics.jsonl"
_COUNTS = ("step", "sampled_tokens", "trained_tokens", "signal_tokens", "computed_tokens")
_PLAN = tuple(f.name for f in fields(Plan))

Line = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Curve:
    """A run, as its lines tell it.

    Attributes:
        plan: of the run.
        lines: one an evaluation, by sampled tokens.
    """

    plan: Plan
    lines: tuple[Line, ...]

    @property
    def marks(self) -> NDArray[np.float64]:
        """Sampled tokens at which curves are compared: the k-th part of the budget for each evaluation."""
        return np.linspace(0.0, self.plan.budget, self.plan.evaluations + 1)

    @property
    def reached(self) -> float:
        """Share of the budget that was sampled."""
        return float(self.lines[-1]["sampled_tokens"]) / self.plan.budget

    @property
    def finished(self) -> bool:
        """Whether it went on to the step that is nearest to the end of the budget."""
        last = self.lines[-1]
        return bool(last["step"]) and last["sampled_tokens"] * (1 + 0.5 / last["step"]) > self.plan.budget

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """At the marks: evaluations come at the first step after a mark, and what lies between two is interpolated.

        A finished run that ends less than half a step before the budget keeps its last value until there; one that is
        not finished has NaN after its last line.
        """
        at = [line["sampled_tokens"] for line in self.lines]
        values = np.interp(self.marks, at, [line["accuracy"] for line in self.lines])
        if not self.finished:
            values[self.marks > at[-1]] = np.nan
        return values

    @property
    def final(self) -> float:
        """At the end of the budget."""
        return float(self.accuracy[-1])

    @property
    def mean(self) -> float:
        """Area under the curve (trapezoids between the marks), as a mean over the budget."""
        return float(((self.accuracy[1:] + self.accuracy[:-1]) / 2).mean())

    def per_token(self, count: str) -> float:
        """``"trained"``, ``"computed"`` or ``"signal"`` tokens for each sampled one."""
        return float(self.lines[-1][f"{count}_tokens"]) / float(self.lines[-1]["sampled_tokens"])

    def seconds(self, section: str) -> float:
        """Wall time of a section for each 100,000 sampled tokens; 0 for one that was not entered."""
        return 1e5 * float(self.lines[-1]["seconds"].get(section, 0.0)) / float(self.lines[-1]["sampled_tokens"])


def read(folder: Path) -> dict[Plan, Curve]:
    """The runs in the ``*.jsonl`` files of a folder, all but the diagnostics.

    Raises:
        ValueError: a line that is not one of a run, or that contradicts another; the message names file and line.
    """
    found: dict[Plan, dict[tuple[int, int], Line]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        if path.name == DIAGNOSTICS:
            continue
        for where, line in parse(path):
            plan, at = _plan(where, line), (line["sampled_tokens"], line["step"])
            earlier = found.setdefault(plan, {}).setdefault(at, line)
            if earlier["accuracy"] != line["accuracy"]:
                msg = f"{where}: accuracy {line['accuracy']} at step {at[1]} of {plan.name}, in an earlier line "
                raise ValueError(msg + f"{earlier['accuracy']}")
    return {plan: Curve(plan, tuple(lines[at] for at in sorted(lines))) for plan, lines in found.items()}


def parse(path: Path) -> Iterable[tuple[str, Line]]:
    """The JSON objects of a file, each with its ``file:line``."""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        try:
            line = json.loads(text)
        except ValueError as wrong:
            msg = f"{where}: expected a line of JSON, got {text[:60]!r}"
            raise ValueError(msg) from wrong
        if not isinstance(line, dict):
            msg = f"{where}: expected a JSON object, got {text[:60]!r}"
            raise ValueError(msg)
        yield where, line


def _plan(where: str, line: Mapping[str, Any]) -> Plan:
    if missing := [name for name in (*_PLAN, *_COUNTS, "accuracy", "entropy", "length", "seconds") if name not in line]:
        msg = f"{where}: expected a line of a run, got one without {', '.join(missing)}"
        raise ValueError(msg)
    for name in (*_COUNTS, "accuracy", "entropy", "length", "budget", "evaluations"):
        x = line[name]
        if isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) or x < 0:
            msg = f"{where}: {name!r} must be a number from 0, got {x!r}"
            raise ValueError(msg)
    return Plan(**{name: line[name] for name in _PLAN})
