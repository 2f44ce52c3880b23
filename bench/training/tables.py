"""Tables in Markdown. Each row begins with an anchor, to which other pages can link."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.training import stats
from bench.training.curves import Curve, Line
from bench.training.run import Plan
from bench.training.stats import Difference, Interval, Runs
from bench.training.suites import Suite

Titles = Mapping[str, str]
Curves = Mapping[Plan, Curve]

SECTIONS = ("sampling", "model", "rollmath")
AT_END = {"greedy": 3, "entropy": 3, "length": 1}  # with so many digits

_LEVEL, _COUNT = f"{stats.LEVEL:.0%}".replace("%", " %"), f"{stats.RESAMPLES:,}"
LEGEND = f"""\
- *final*: accuracy on held-out items at the end of the budget; *mean*: of the curve over the budget (its area), which
  counts how fast an arm learns and averages all evaluations. The items are the same for all runs, so intervals say what
  other seeds of training would change, not what other items would.
- Intervals at *final* and *mean*: percentile bootstrap over seeds ({_COUNT} resamples, {_LEVEL}). With five seeds they
  are too narrow: of normal numbers they cover the mean in 84 % of cases.
- *difference*: mean over the budget minus that of the baseline, seed by seed, with Student's {_LEVEL} interval, by
  which the verdict goes. `*` marks what stays clear when all arms of the table are tested together (Holm).
- *steps*: training steps in the budget, which differ where steps differ in tokens. Adam goes about as far in each.
- *trained*, *computed*, *signal*: tokens for each sampled one: those that the loss counts; those that went through the
  model for it, prompts included; those whose advantage is not 0.
- *greedy*, *entropy*, *length*: on held-out items at the end: accuracy of the likeliest response; entropy of a token in
  nats; tokens of a response.
- *seconds*: wall time of sampling / model (forward, backward, optimiser) / rollmath for each 100,000 sampled tokens, of
  the seed that was fastest: two runs went on at a time, and at times others beside them.
- In pictures of differences, thin lines are Student's intervals, thick ones the bootstrap's, and a mark is filled where
  Student's excludes 0.
"""

_HEAD = (
    *("arm", "final", "mean", "difference", "verdict", "steps"),
    *("trained", "computed", "signal", "greedy", "entropy", "length", "seconds"),
)


def results(suite: Suite, task: str, curves: Curves, titles: Titles) -> str | None:
    """What the arms of a suite did on a task; None without a finished run."""
    runs, notes = stats.select(suite, task, curves)
    if not runs:
        return None
    against = stats.differences(runs, suite.baseline)
    rows = [
        (_anchor(suite.name, task, arm) + _title(arm, titles), *_cells(arm, runs, against, suite.baseline))
        for arm in runs
    ]
    if suite.baseline not in runs:
        notes.insert(0, f"No run of the baseline, {suite.baseline}: no differences.")
    return "\n\n".join([_caption(runs, suite, titles), _table(_HEAD, rows), *notes]) + "\n"


def _cells(arm: str, runs: Runs, against: Mapping[str, Difference], baseline: str) -> list[str]:
    seeds = list(runs[arm].values())

    def mean(what: Callable[[Curve], float]) -> float:
        return float(np.mean([what(curve) for curve in seeds]))

    final, area = (stats.over_seeds([getattr(curve, name) for curve in seeds]) for name in ("final", "mean"))
    difference, verdict = ("", "baseline") if arm == baseline else ("", "")
    if arm in against:
        d = against[arm]
        difference, verdict = interval(d.student, "+.3f"), d.verdict + r"\*" * d.holm
    shares = [fixed(mean(lambda c, name=name: c.per_token(name)), ".2f") for name in ("trained", "computed")]
    signal = fixed(mean(lambda c: c.per_token("signal")), ".0%")
    fastest = min(seeds, key=lambda c: sum(c.seconds(name) for name in SECTIONS))
    took = " / ".join(fixed(fastest.seconds(name), ".1f") for name in SECTIONS)
    return [
        interval(final),
        interval(area),
        difference,
        verdict,
        fixed(mean(lambda c: c.lines[-1]["step"]), ".1f"),
        *shares,
        signal,
        *(_found(seeds, -1, name, digits) for name, digits in AT_END.items()),
        took,
    ]


def _found(curves: Sequence[Curve], at: int, name: str, digits: int) -> str:
    """Mean of what a line of each run has found; empty if one of them lacks it, as likeliest responses may."""
    values = [curve.lines[at].get(name) for curve in curves]
    return "" if None in values else fixed(float(np.mean(values)), f".{digits}f")


def _caption(runs: Runs, suite: Suite, titles: Titles) -> str:
    found = [curve for seeds in runs.values() for curve in seeds.values()]
    plans = [curve.plan for curve in found]
    one = plans[0]
    before = {name: _found(found, 0, name, digits) for name, digits in {"accuracy": 3, **AT_END}.items()}
    numbers = sorted({plan.seed for plan in plans})
    said = [
        f"{one.task}: {one.budget:,} sampled tokens a run",
        f"{len(numbers)} seed{'s' * (len(numbers) > 1)} ({', '.join(map(str, numbers))})",
        f"{one.items} {'held-out' if one.held_out else 'tuning'} items",
        f"{one.samples} sample{'s' * (one.samples > 1)} of each",
        f"before training: {', '.join(f'{name} {value}' for name, value in before.items() if value)}",
        _rates(runs, titles),
    ]
    counts = {arm: len(seeds) for arm, seeds in runs.items()}
    if len(set(counts.values())) > 1:
        most = max(counts.values())
        said.append("fewer seeds: " + ", ".join(f"{_title(a, titles)} {n}" for a, n in counts.items() if n < most))
    return "; ".join([*said, f"baseline: {_title(suite.baseline, titles)}"]) + "."


def _rates(runs: Runs, titles: Titles) -> str:
    found = {arm: next(iter(seeds.values())).plan.learning_rate for arm, seeds in runs.items()}
    values = list(found.values())
    usual = max(values, key=values.count)
    other = [f"{stats.rate(x)} for {_title(arm, titles)}" for arm, x in found.items() if x != usual]
    return ", ".join([f"learning rate {stats.rate(usual)}", *other])


def learning_rates(suite: Suite, task: str, curves: Curves, titles: Titles) -> str | None:
    """Mean over the budget of each arm at each rate, on tuning items and seeds; the best is bold."""
    plans = [plan for plan in suite.plans() if plan.task == task]
    found: dict[str, dict[float, list[float]]] = {}
    for plan in plans:
        if plan in curves and curves[plan].finished:
            found.setdefault(plan.arm, {}).setdefault(plan.learning_rate, []).append(curves[plan].mean)
    if not found:
        return None
    rates, seeds = sorted({plan.learning_rate for plan in plans}), len({plan.seed for plan in plans})
    rows, edge, fewer = [], [], []
    for arm in sorted(found, key=suite.arms.index):
        means = {rate: float(np.mean(values)) for rate, values in found[arm].items()}
        best = max(means, key=lambda rate: means[rate])
        if best in (min(means), max(means)) and len(rates) > 1:
            edge.append(_title(arm, titles))
        if len(means) < len(rates) or min(map(len, found[arm].values())) < seeds:
            fewer.append(_title(arm, titles))
        cells = [fixed(means[rate], ".3f") if rate in means else "" for rate in rates]
        cells = [f"**{cell}**" if rate == best else cell for rate, cell in zip(rates, cells, strict=True)]
        rows.append((_anchor(suite.name, task, arm) + _title(arm, titles), *cells))
    what = f"{task}: mean accuracy on tuning items over {plans[0].budget:,} sampled tokens, {seeds} seeds."
    notes = [f"The best rate is at an end of the range: {', '.join(edge)}."] if edge else []
    notes += [f"Some of their runs are missing or not finished: {', '.join(fewer)}."] if fewer else []
    return "\n\n".join([what, _table(("arm", *map(stats.rate, rates)), rows), *notes]) + "\n"


# Columns of the diagnostics, and what they are called there.
DIAGNOSTICS = {
    "signal_share": "signal",
    "noise_to_signal_10k": "noise / signal",
    "cosine": "cosine of the mean",
    "cosine_batch": "cosine of a batch",
    "credit_correlation": "credit r",
    "credit_corrected": "credit r, corrected",
    "sign_agreement": "same sign",
    "sign_opposite": "opposite sign",
}


def diagnostics(task: str, lines: Iterable[Line], order: Sequence[str], titles: Titles) -> str | None:
    """A row a line, with standard errors where a line has them; what is the same in all lines is said above.

    Lines with none of the known columns give one for each of their numbers.
    """
    mine = [line for line in lines if line.get("task") == task]
    if not mine:
        return None
    mine.sort(key=lambda line: order.index(line["arm"]) if line["arm"] in order else len(order))
    numbers = [name for name in dict.fromkeys(n for line in mine for n in line) if _is_number(mine, name)]
    columns = [name for name in DIAGNOSTICS if name in numbers]
    same = [n for n in numbers if n not in columns and len({line.get(n) for line in mine}) == 1 and n[-3:] != "_se"]
    columns = columns or [n for n in numbers if n not in same and n[-3:] != "_se"]
    varies = [n for n in ("checkpoint", "seed") if len({line.get(n) for line in mine}) > 1]
    rows = []
    for line in mine:
        which = [str(line[name]) for name in varies if name in line]
        if (sampler := line.get("sampler", line.get("checkpoint"))) != line.get("checkpoint"):
            which.append(f"sampled by {sampler}")
        anchor = _anchor("diagnostics", task, line["arm"], *(x.replace(" ", "-") for x in which))
        cells = [_with_error(line.get(name), line.get(f"{name}_se")) for name in columns]
        rows.append((anchor + ", ".join([_title(line["arm"], titles), *which]), *cells))
    said = ", ".join(f"{name.replace('_', ' ')} {_number(mine[0][name])}" for name in same)
    head = [DIAGNOSTICS.get(name, name.replace("_", " ")) for name in columns]
    what = f"{task}, in each row: {said}." if said else f"{task}."
    return "\n\n".join([what, _table(("arm", *head), rows)]) + "\n"


def _with_error(x: float | None, error: float | None) -> str:
    text = _number(x)
    return f"{text} ± {error:.2g}" if text and error is not None and not math.isnan(error) else text


def _is_number(lines: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [line[name] for line in lines if line.get(name) is not None]
    return bool(values) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)


def _number(x: float | None) -> str:
    if x is None or math.isnan(x):
        return ""
    return f"{x:,}" if isinstance(x, int) else f"{x:.3g}"


def interval(x: Interval, form: str = ".3f") -> str:
    """``0.512 [0.498, 0.527]``; only the value where it has no interval."""
    value, low, high = (fixed(y, form) for y in x)
    return value if math.isnan(x.low) else f"{value} [{low}, {high}]"


def fixed(x: float, form: str) -> str:
    """Formatted alike on machines that sum in another order: a tie stays one, and no zero has a minus."""
    return format(round(x, 9), form.replace(".", "z."))


def _title(arm: str, titles: Titles) -> str:
    return titles.get(arm, arm).replace("|", "\\|")


def _anchor(*names: str) -> str:
    return f'<a id="{"-".join(names)}"></a>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))
