"""Which convention given advantages follow: every named framework's formula, tried on the same rewards."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath import group
from rollmath._audit_inputs import Batch
from rollmath.conventions import DEFAULT, Convention, Framework, frameworks
from rollmath.groups import Groups
from rollmath.ops import gather

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Names of frameworks' methods that are a function of ours by another name.
_CALLS: dict[str, tuple[str, dict[str, Any]]] = {"rloo_vectorized": ("rloo", {}), "dr_grpo": ("grpo", {"scale": "none"})}


class Match(NamedTuple):
    """How far the given advantages are from a formula.

    Attributes:
        names: the conventions and methods that give these numbers here, such as ``("VERL grpo", "SKYRL grpo")``; more
            than one where the batch does not tell them apart.
        grouping: what was taken for a group: ``"ids"``; ``"batch"``, all rollouts one group; or ``"consecutive"``,
            slices of the commonest group size, by position.
        off: rollouts that differ by more than the tolerance.
        difference: the largest absolute difference of the others; of all rollouts if all differ.
    """

    names: tuple[str, ...]
    grouping: str
    off: int
    difference: float


@dataclass(frozen=True)
class Candidate:
    """A formula: a method, what it is called, its convention and keywords."""

    name: str
    function: str
    rules: Convention
    options: Mapping[str, Any]

    def advantages(
        self, rewards: NDArray[np.float64], groups: Groups, valid: NDArray[np.bool_]
    ) -> NDArray[np.float64] | None:
        """What the formula gives, or None where it does not apply; nothing raises that can be NaN instead."""
        rules = replace(
            self.rules,
            nan="propagate" if self.rules.nan == "raise" else self.rules.nan,
            singleton="nan" if self.rules.singleton == "raise" else self.rules.singleton,
            zero_spread="nan" if self.rules.zero_spread == "raise" else self.rules.zero_spread,
        )
        try:
            call = getattr(group, self.function)
            out = call(rewards, groups, valid=valid, convention=rules, **self.options)
        except (TypeError, ValueError):
            return None
        return np.asarray(out, dtype=np.float64)


def candidates(extra: Mapping[str, Convention | Framework]) -> Iterator[Candidate]:
    """Every convention of every framework for a method that needs rewards and groups alone, and those of ``extra``."""
    ours = Framework("DEFAULT", {"grpo": DEFAULT, "dr_grpo": DEFAULT, "rloo": DEFAULT})
    for name, convention in {**extra, "DEFAULT": ours, **frameworks()}.items():
        named = convention if isinstance(convention, Framework) else Framework(name, {"grpo": convention})
        for method, rules in named.items():
            function, options = _CALLS.get(method, (method, {}))
            if _takes_rewards_alone(getattr(group, function, None)):
                yield Candidate(f"{name} {method}", function, rules, {**options, **named.options.get(method, {})})


def _takes_rewards_alone(function: object) -> bool:
    if not inspect.isfunction(function):
        return False
    parameters = inspect.signature(function).parameters
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    return needed == ["rewards", "groups"] and "convention" in parameters and "valid" in parameters


def compared(batch: Batch, *, all_groups: bool = False) -> NDArray[np.bool_]:
    """Rollouts that tell conventions apart: not those of groups without spread, which get 0 from all of them."""
    rows: NDArray[np.bool_] = batch.member & ~batch.filtered & ~batch.varies
    return rows if all_groups else rows & gather(batch.spread | (batch.stats.n == 1), batch.groups)


def distance(
    given: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which differ (by more than the tolerance times max(1, |expected|)), and the absolute differences; NaN is NaN."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(given - expected)
    gap[(given == expected) | (np.isnan(given) & np.isnan(expected))] = 0.0
    gap[np.isnan(gap)] = np.inf
    size = np.abs(expected)
    return gap > tolerance * np.where(np.isfinite(size), np.maximum(size, 1.0), 1.0), gap


def matches(batch: Batch, extra: Mapping[str, Convention | Framework], tolerance: float) -> tuple[Match, ...]:
    """All formulas, the nearest first; other groupings are tried where none fits by ids."""
    tried = list(candidates(extra))
    found = _by_grouping(batch, batch.groups, "ids", tried, compared(batch), tolerance)
    if not found or found[0].off == 0:
        return found
    rows = compared(batch, all_groups=True)
    for name, other in _groupings(batch):
        found += _by_grouping(batch, other, name, tried, rows, tolerance)
    return tuple(sorted(found, key=lambda m: (m.off, m.grouping != "ids", m.difference)))


def _groupings(batch: Batch) -> Iterator[tuple[str, Groups]]:
    n = len(batch.groups)
    if batch.groups.n_groups > 1:
        yield "batch", Groups(np.zeros(n, dtype=np.int64))
    sizes, times = np.unique(batch.groups.counts, return_counts=True)
    size = int(sizes[np.argmax(times)])
    slices = np.arange(n) // size
    if 1 < size < n and not np.array_equal(slices, batch.groups.index):
        yield "consecutive", Groups(slices)


def _by_grouping(
    batch: Batch,
    groups: Groups,
    grouping: str,
    tried: list[Candidate],
    rows: NDArray[np.bool_],
    tolerance: float,
) -> tuple[Match, ...]:
    given, same = batch.advantages[rows], {}
    if not len(given):
        return ()
    for candidate in tried:
        out = candidate.advantages(batch.rewards, groups, batch.valid)
        if out is not None:
            expected = out[rows] + 0.0  # one sign of zero
            same.setdefault(expected.tobytes(), (expected, []))[1].append(candidate.name)
    found = []
    for expected, names in same.values():
        off, gap = distance(given, expected, tolerance)
        largest = gap.max() if off.all() else gap[~off].max()
        found.append(Match(tuple(names), grouping, int(off.sum()), float(largest)))
    return tuple(sorted(found, key=lambda m: (m.off, m.difference)))
