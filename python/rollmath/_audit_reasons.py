"""Why a rollout carries no signal: exactly one reason each, by a fixed precedence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rollmath._arrays import number
from rollmath._audit_inputs import WHO, Batch
from rollmath.ops import gather

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: In the order of precedence: a rollout gets the first that holds for it.
REASONS = (
    "not valid",
    "filtered",
    "NaN reward",
    "infinite reward",
    "no trained token",
    "group of one",
    "zero spread: all at the bottom",
    "zero spread: all at the top",
    "zero spread: in between",
    "zero spread",
    "non-finite advantage",
    "zero advantage",
    "signal",
)
SIGNAL = len(REASONS) - 1


class Bounds(NamedTuple):
    """The bottom and the top of the rewards; None where it is not known."""

    low: float | None
    high: float | None


def bounds(batch: Batch, low: object, high: object) -> Bounds:
    """As given, or the smallest and the largest reward seen if they differ (one reward alone is neither)."""
    given = Bounds(*(None if x is None else number(WHO, name, x) for name, x in (("low", low), ("high", high))))
    for name, x in given._asdict().items():
        if x is not None and not math.isfinite(x):
            msg = f"{WHO}(): {name!r} must be finite, got {x}"
            raise ValueError(msg)
    if given.low is not None and given.high is not None and given.low >= given.high:
        msg = f"{WHO}(): 'low' must be less than 'high', got {given.low} and {given.high}"
        raise ValueError(msg)
    seen = batch.rewards[batch.member]
    if not len(seen) or seen.min() == seen.max():
        return given
    bottom = given.low if given.low is not None else float(seen.min())
    top = given.high if given.high is not None else float(seen.max())
    return Bounds(bottom, top) if bottom < top else given


def at_bottom(x: NDArray[np.float64], limits: Bounds) -> NDArray[np.bool_]:
    """Which numbers are at the lower bound, or below it."""
    return np.zeros(x.shape, dtype=bool) if limits.low is None else x <= limits.low


def at_top(x: NDArray[np.float64], limits: Bounds) -> NDArray[np.bool_]:
    """Which numbers are at the upper bound, or above it."""
    return np.zeros(x.shape, dtype=bool) if limits.high is None else x >= limits.high


def reasons(batch: Batch, limits: Bounds) -> NDArray[np.int8]:
    """Index into :data:`REASONS` for each rollout."""
    groups, stats = batch.groups, batch.stats
    equal = (stats.n > 1) & ~batch.spread
    bottom, top = equal & at_bottom(stats.max, limits), equal & at_top(stats.min, limits)
    no_token = np.zeros(len(groups), dtype=bool) if batch.tokens is None else batch.tokens == 0
    conditions = [
        ~batch.valid,
        batch.filtered,
        np.isnan(batch.rewards),
        np.isinf(batch.rewards),
        no_token,
        gather(stats.n == 1, groups),
        gather(bottom, groups),
        gather(top, groups),
        gather(equal & (None not in limits), groups),
        gather(equal, groups),  # at neither bound, where one is not known: it may be there all the same
        ~np.isfinite(batch.advantages),
        ~batch.nonzero,
    ]
    return np.select(conditions, np.arange(SIGNAL), SIGNAL).astype(np.int8)


def of_groups(batch: Batch, codes: NDArray[np.int8]) -> NDArray[np.int8]:
    """The reason of each group: "signal" if a rollout of it has signal, else that of the rollout that came furthest."""
    if not len(codes):
        return codes
    ordered = codes[batch.groups.order]
    return np.maximum.reduceat(ordered, batch.groups.offsets[:-1])
