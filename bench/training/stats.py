"""Means over seeds with their intervals, and differences between arms with equal seeds.

Two intervals are made. The percentile bootstrap over seeds is what plots and tables show around a mean. With five seeds
it is too narrow: one of 95 % covers the mean of normal numbers in about 84 % of cases. So whether an arm is better goes
by Student's interval of the paired differences, which covers it in 95 %.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

import rollmath as rm
from bench.training.curves import Curve
from bench.training.run import Plan
from bench.training.suites import Suite

LEVEL = 0.95
RESAMPLES = 10_000

Measure = Literal["mean", "final"]


class Interval(NamedTuple):
    """A mean and the ends of its interval, NaN where there are too few numbers for one."""

    value: float
    low: float
    high: float


def bootstrap(values: ArrayLike, *, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the percentile interval of the mean over the first axis, ``[S, ...] -> [...]`` each; NaN for one seed."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return np.full(x.shape[1:], np.nan), np.full(x.shape[1:], np.nan)
    n = len(x)
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    # How often each seed was drawn: one product instead of RESAMPLES copies of the curves.
    counts = np.bincount((drawn + n * np.arange(RESAMPLES)[:, None]).ravel(), minlength=n * RESAMPLES)
    means = np.tensordot(counts.reshape(RESAMPLES, n) / n, x, 1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean and bootstrap interval."""
    low, high = bootstrap(values)
    return Interval(float(np.mean(values)), float(low), float(high))


def student(values: Sequence[float]) -> Interval:
    """Mean and Student's interval; NaN ends for one value."""
    estimate = rm.metrics.best_at_k(np.asarray(values), np.arange(len(values)), k=1, level=LEVEL)
    return Interval(float(estimate.value), float(estimate.low), float(estimate.high))


def p_value(values: Sequence[float]) -> float:
    """Two-sided, of Student's test that the mean is 0; NaN for one value."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return math.nan
    if x.max() == x.min():
        return 0.0 if x[0] else 1.0
    return _outside(abs(float(x.mean())) / float(x.std(ddof=1)) * math.sqrt(len(x)), len(x) - 1)


def _outside(t: float, df: int) -> float:
    """``P(|T| > t)`` of Student's distribution: a finite sum for whole ``df`` (Abramowitz and Stegun, 26.7.3-4)."""
    angle = math.atan2(t, math.sqrt(df))
    even = df % 2 == 0
    term = 1.0 if even else math.cos(angle)
    total = term if df > 1 else 0.0
    for k in range(2 if even else 3, df - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    total *= math.sin(angle)
    return 1 - (total if even else 2 / math.pi * (angle + total))


def holm(p: Sequence[float]) -> list[bool]:
    """Which stay significant when all of them are tested together; NaN was not tested."""
    order = sorted((i for i, x in enumerate(p) if not math.isnan(x)), key=lambda i: p[i])
    out = [False] * len(p)
    for rank, i in enumerate(order):
        if p[i] > (1 - LEVEL) / (len(order) - rank):
            break
        out[i] = True
    return out


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline, over the seeds that both have.

    Attributes:
        arm: name.
        seeds: the common ones.
        values: a difference for each.
        student: mean and Student's interval, by which the verdict goes.
        bootstrap: mean and bootstrap interval, too narrow for few seeds.
        p: two-sided.
        holm: whether it is clear too when the arms of the table are tested together.
    """

    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    student: Interval
    bootstrap: Interval
    p: float
    holm: bool = False

    @property
    def verdict(self) -> str:
        """In words."""
        if math.isnan(self.p):
            return "too few seeds"
        if self.student.low > 0:
            return "better"
        return "worse" if self.student.high < 0 else "no clear difference"


Runs = dict[str, dict[int, Curve]]


class Selected(NamedTuple):
    """The finished runs of a suite on a task, by arm and seed, and what a reader has to know about the others."""

    runs: Runs
    notes: list[str]


def select(suite: Suite, task: str, curves: Mapping[Plan, Curve]) -> Selected:
    """The runs of a suite, in the order of its arms; an arm without a finished run is only in the notes."""
    runs: Runs = {arm: {} for arm in suite.arms}
    missing, unfinished = defaultdict[str, list[int]](list), defaultdict[str, list[str]](list)
    plans = [plan for plan in suite.plans() if plan.task == task]
    for plan in plans:
        curve = curves.get(plan)
        if curve is None:
            missing[plan.arm].append(plan.seed)
        elif not curve.finished:
            unfinished[plan.arm].append(f"seed {plan.seed} at {curve.reached:.0%}")
        elif plan.seed in runs[plan.arm]:
            msg = f"select(): suite {suite.name!r} must have one run for each arm and seed, got several learning rates "
            raise ValueError(msg + f"of {plan.arm!r} on {task!r}")
        else:
            runs[plan.arm][plan.seed] = curve
    notes = []
    if missing:
        without = ((arm, missing[arm], runs[arm] or arm in unfinished) for arm in suite.arms if arm in missing)
        said = (f"{arm} ({_of(seeds) if some else 'all'})" for arm, seeds, some in without)
        notes.append(f"Without runs: {', '.join(said)}.")
    if unfinished:
        said = (f"{arm} ({', '.join(at)})" for arm, at in unfinished.items())
        notes.append(f"Not finished, not counted: {', '.join(said)}.")
    for arm, others in _other_rates(plans, curves).items():
        notes.append(f"{arm} was also run with learning rate {', '.join(map(rate, others))}: not counted here.")
    return Selected({arm: dict(sorted(seeds.items())) for arm, seeds in runs.items() if seeds}, notes)


def _of(seeds: Iterable[int]) -> str:
    listed = sorted(seeds)
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"


def _other_rates(plans: Sequence[Plan], curves: Mapping[Plan, Curve]) -> dict[str, list[float]]:
    """Rates of runs that differ from those of the suite in nothing else."""
    wanted, out = set(plans), defaultdict[str, set[float]](set)
    alike = {replace(plan, learning_rate=0.0) for plan in plans}
    for plan in curves:
        if plan not in wanted and replace(plan, learning_rate=0.0) in alike:
            out[plan.arm].add(plan.learning_rate)
    return {arm: sorted(found) for arm, found in out.items()}


def rate(x: float) -> str:
    """A learning rate as people write it: 1e-4, 1.5e-4."""
    digits, power = f"{x:.3e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def differences(runs: Runs, baseline: str, measure: Measure = "mean") -> dict[str, Difference]:
    """Of each other arm to the baseline, seed by seed."""
    found: dict[str, Difference] = {}
    base = runs.get(baseline, {})
    for arm, seeds in runs.items():
        common = tuple(seed for seed in seeds if seed in base)
        if arm == baseline or not common:
            continue
        d = tuple(float(getattr(seeds[s], measure) - getattr(base[s], measure)) for s in common)
        found[arm] = Difference(arm, common, d, student(d), over_seeds(d), p_value(d))
    clear = holm([x.p for x in found.values()])
    return {arm: replace(x, holm=ok) for (arm, x), ok in zip(found.items(), clear, strict=True)}
