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
_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "rloo_vectorized": ("rloo", {}),
    "dr_grpo": ("grpo", {"scale": "none"}),
}


class Match(NamedTuple):
    """How far the given advantages are from a formula.

    Attributes:
        names: the conventions and methods that give these numbers here, such as ``("VERL grpo", "SKYRL grpo")``, the
            nearest first; more than one where the batch, or the rounding of the advantages, does not tell them apart.
        grouping: what was taken for a group: ``"ids"``; ``"batch"``, all rollouts one group; or ``"consecutive"``,
            slices of the commonest group size, by position.
        compared: rollouts that were compared.
        off: those that differ by more than the tolerance.
        difference: the largest absolute difference.
        within: the largest of those that are not off; None if all are.
        undefined: rollouts where the formula gives NaN or infinity, and the advantage is a number.
    """

    names: tuple[str, ...]
    grouping: str
    compared: int
    off: int
    difference: float
    within: float | None
    undefined: int = 0


@dataclass(frozen=True)
class Candidate:
    """A formula: a method, the arrays that it needs, its convention and keywords."""

    name: str
    function: str
    needs: tuple[str, ...]
    rules: Convention
    options: Mapping[str, Any]

    def advantages(self, batch: Batch, groups: Groups) -> NDArray[np.float64] | None:
        """What the formula gives, or None where it does not apply; nothing raises that can be NaN instead."""
        rules = replace(
            self.rules,
            nan="propagate" if self.rules.nan == "raise" else self.rules.nan,
            singleton="nan" if self.rules.singleton == "raise" else self.rules.singleton,
            zero_spread="nan" if self.rules.zero_spread == "raise" else self.rules.zero_spread,
        )
        arrays = {"rewards": batch.rewards, "groups": groups, "lengths": batch.tokens}
        given = [arrays[name] for name in self.needs]
        try:
            out = getattr(group, self.function)(*given, valid=batch.valid, convention=rules, **self.options)
        except (TypeError, ValueError):
            return None
        return np.asarray(out, dtype=np.float64)


def candidates(asked: Framework, *, lengths: bool = False) -> Iterator[Candidate]:
    """What was asked for, and every convention of every framework for a method that needs rewards and groups alone.

    With ``lengths``, methods that need these too. Who has GRPO can leave out its division: "dr_grpo".
    """
    ours = Framework("DEFAULT", {"grpo": DEFAULT, "rloo": DEFAULT})
    for name, framework in {asked.name: asked, "DEFAULT": ours, **frameworks()}.items():
        methods = dict(framework)
        if "grpo" in methods:
            methods.setdefault("dr_grpo", methods["grpo"])
        for method, rules in methods.items():
            function, options = _CALLS.get(method, (method, {}))
            needs = _needs(getattr(group, function, None))
            if needs == ("rewards", "groups") or (lengths and needs == ("rewards", "groups", "lengths")):
                given = {**options, **framework.options.get(method, {})}
                yield Candidate(f"{name} {method}", function, needs, rules, given)


def _needs(function: object) -> tuple[str, ...]:
    """The arrays that a method cannot do without; nothing if it is no method with a convention."""
    if not inspect.isfunction(function):
        return ()
    parameters = inspect.signature(function).parameters
    if not {"convention", "valid"} <= parameters.keys():
        return ()
    return tuple(p.name for p in parameters.values() if p.default is p.empty and p.kind is not p.VAR_KEYWORD)


def compared(batch: Batch, *groupings: Groups) -> NDArray[np.bool_]:
    """Rollouts that tell conventions apart: not those of groups without spread, which get 0 from all of them.

    With other groupings, a rollout of a group with spread in one of them tells too.
    """
    tells = gather(batch.spread | (batch.stats.n == 1), batch.groups)
    for groups in groupings:
        stats = groups.stats(batch.rewards, valid=batch.member)
        tells = tells | gather((stats.n == 1) | (stats.min != stats.max), groups)
    rows: NDArray[np.bool_] = batch.member & batch.said & ~batch.filtered & ~batch.varies & tells
    return rows


def distance(
    given: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which differ (by more than the tolerance times max(1, |expected|)), and the absolute differences; NaN is NaN."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(given - expected)
    gap[(given == expected) | (np.isnan(given) & np.isnan(expected))] = 0.0
    gap[np.isnan(gap)] = np.inf
    return gap > tolerance * _size(expected), gap


def matches(batch: Batch, asked: Framework, tolerance: float) -> tuple[Match, ...]:
    """All formulas, the nearest first; other groupings are tried where none fits by ids."""
    blank = not (batch.nonzero & batch.trains).any()
    if blank and (batch.trains & batch.member & gather(batch.spread, batch.groups)).any():
        return ()  # nothing was filled in, rather than a formula that gives 0
    tried = list(candidates(asked, lengths=batch.tokens is not None))
    found = _by_grouping(batch, batch.groups, "ids", tried, compared(batch), tolerance)
    if blank or (found and found[0].off == 0):
        return found
    for name, other in _groupings(batch):
        found += _by_grouping(batch, other, name, tried, compared(batch, other), tolerance)
    return tuple(sorted(found, key=_order))


def _order(m: Match) -> tuple[float, ...]:
    """By the share that is off while that is a minority; of formulas that do not fit, by the largest difference.

    Those that fit everywhere stay as :func:`_tied` has them.
    """
    fits, share = 2 * m.off < m.compared, m.off / m.compared
    within = m.within if m.off and m.within is not None else 0.0
    return (not fits, share if fits else m.difference, share, m.grouping != "ids", within)


def _size(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What differences are measured by: max(1, |x|)."""
    size = np.abs(x)
    return np.where(np.isfinite(size), np.maximum(size, 1.0), 1.0)


def rows_off(batch: Batch, match: Match, asked: Framework, tolerance: float) -> NDArray[np.bool_]:
    """Which rollouts differ from a match by ids."""
    out = np.zeros(len(batch.groups), dtype=bool)
    tried = candidates(asked, lengths=batch.tokens is not None)
    expected = next(c for c in tried if c.name == match.names[0]).advantages(batch, batch.groups)
    if expected is not None:
        out = compared(batch)
        out[out] = distance(batch.advantages[out], expected[out], tolerance)[0]
    return out


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
    given = batch.advantages[rows]
    same: dict[bytes, tuple[NDArray[np.float64], list[str]]] = {}
    if not len(given):
        return ()
    for candidate in tried:
        out = candidate.advantages(batch, groups)
        if out is not None:
            expected = out[rows] + 0.0  # one sign of zero
            same.setdefault(expected.tobytes(), (expected, []))[1].append(candidate.name)
    fits, others = [], []
    for expected, names in same.values():
        off, gap = distance(given, expected, tolerance)
        # Another grouping is a guess: only where most rollouts bear it out, and not by zeros.
        if grouping != "ids" and 2 * off.sum() >= ((given != 0) | (expected != 0)).sum():
            continue
        within = None if off.all() else float(gap[~off].max())
        undefined = int((np.isfinite(given) & ~np.isfinite(expected)).sum())
        match = Match(tuple(names), grouping, len(given), int(off.sum()), float(gap.max()), within, undefined)
        if match.off:
            others.append(match)
        else:
            fits.append((float((gap / _size(expected)).max()), match))
    return (*_tied(fits, given), *sorted(others, key=_order))


def _tied(fits: list[tuple[float, Match]], given: NDArray[np.float64]) -> list[Match]:
    """The fits, with those as one that are as near as the nearest but for rounding."""
    if not fits:
        return []
    fits = sorted(fits, key=lambda fit: fit[0])
    finite = given[np.isfinite(given)]
    # The last digits of float32 arithmetic, or of whatever coarser form the nearest shows, tell nothing.
    ulps = 5e-7 if np.array_equal(finite, finite.astype(np.float32)) else 1e-14
    noise = max(2 * fits[0][0], ulps)
    near = [match for far, match in fits if far <= noise]
    difference = max(m.difference for m in near)
    first = near[0]._replace(names=tuple(n for m in near for n in m.names), difference=difference, within=difference)
    return [first, *(match for far, match in fits if far > noise)]
