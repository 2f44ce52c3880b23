"""What the metrics share: their options, the mean over groups and its confidence interval."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from rollmath._arrays import choice, describe, number
from rollmath._metrics_interval import t_quantile
from rollmath.groups import Groups
from rollmath.ops import moments

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval = Literal["t", "normal"]
Short = Literal["raise", "skip", "nan"]


class Estimate(NamedTuple):
    """An evaluation metric: its mean over groups, a confidence interval of that mean, and the value of each group.

    With one ``k`` the first three are floats and ``per_group`` is ``[n_groups]``; with a sequence of them they have
    one more axis in front, one element a ``k``.

    Attributes:
        value: mean over the groups that have a value.
        low: lower end of the interval; NaN for fewer than two groups.
        high: upper end.
        per_group: float64, in the order of ``groups.ids``; NaN for a group with too few samples.
        n_groups: how many groups the mean is over.
    """

    value: Any
    low: Any
    high: Any
    per_group: NDArray[np.float64]
    n_groups: Any


@dataclass(frozen=True)
class Call:
    """The checked options of one call."""

    who: str
    ks: tuple[int, ...]
    single: bool
    short: Short
    replacement: bool
    interval: Interval
    level: float

    @classmethod
    def make(
        cls,
        who: str,
        k: int | Sequence[int] | NDArray[np.integer[Any]],
        short: Short,
        replacement: bool,
        interval: Interval,
        level: float,
    ) -> Call:
        """Raises for an option that is none."""
        choice(who, "short", short, ("raise", "skip", "nan"))
        choice(who, "interval", interval, ("t", "normal"))
        if isinstance(level, bool) or not 0 < number(who, "level", level) < 1:
            msg = f"{who}(): 'level' must be a number between 0 and 1, got {level!r}"
            raise ValueError(msg)
        if not isinstance(replacement, (bool, np.bool_)):
            msg = f"{who}(): 'replacement' must be True or False, got {replacement!r}"
            raise TypeError(msg)
        several = (isinstance(k, np.ndarray) and k.ndim > 0) or (
            isinstance(k, Sequence) and not isinstance(k, (str, bytes))
        )
        ks = tuple(_whole(who, item) for item in k) if several else (_whole(who, k),)  # type: ignore[union-attr]
        if not ks or min(ks) < 1:
            msg = f"{who}(): 'k' must be at least 1, got {min(ks) if ks else 'an empty sequence'}"
            raise ValueError(msg)
        return cls(who, ks, not several, short, bool(replacement), interval, float(level))

    def run(
        self, groups: Groups, sizes: NDArray[np.int64], per_group: Callable[[int], NDArray[np.float64]]
    ) -> Estimate:
        """From a function that gives the values of all groups for a ``k``."""
        rows = []
        for k in self.ks:
            need = 1 if self.replacement else k
            if self.short == "raise" and (sizes < need).any():
                bad = int(np.flatnonzero(sizes < need)[0])
                wanted = "a valid sample" if need == 1 else f"at least k = {k} valid samples"
                msg = (
                    f"{self.who}(): every group must have {wanted}, but {groups.ids[bad]!r} has {sizes[bad]}; "
                    "short='skip' leaves such groups out"
                )
                raise ValueError(msg)
            rows.append(np.where(sizes >= need, per_group(k), np.nan))
        means = [self._mean(x) for x in rows]
        if self.single:
            return Estimate(*means[0][:3], rows[0], means[0][3])
        value, low, high, used = (np.array(column) for column in zip(*means, strict=True))
        return Estimate(value, low, high, np.stack(rows), used)

    def _mean(self, x: NDArray[np.float64]) -> tuple[float, float, float, int]:
        seen = ~np.isnan(x)
        # A power of two, so that squares of the largest numbers stay finite and no bit changes.
        unit = 2.0**540 if np.abs(x[seen]).max(initial=0.0) > 2.0**480 else 1.0
        m = moments(x / unit, valid=None if self.short == "nan" else seen)
        n = int(np.count_nonzero(seen))
        if n < 2:
            return m.mean * unit, math.nan, math.nan, n
        one_sided = (1 + self.level) / 2
        width = NormalDist().inv_cdf(one_sided) if self.interval == "normal" else t_quantile(self.level, n - 1)
        half = width * math.sqrt(m.var() / n)
        return m.mean * unit, (m.mean - half) * unit, (m.mean + half) * unit, n


def _whole(who: str, k: object) -> int:
    try:
        if isinstance(k, (bool, np.bool_)):
            raise TypeError
        return operator.index(k)  # type: ignore[arg-type]
    except TypeError:
        msg = f"{who}(): 'k' must be a whole number or a sequence of them, got {describe(k)}"
        raise TypeError(msg) from None
