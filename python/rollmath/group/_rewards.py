"""What methods of several steps share: rewards read once, float64 between the steps, one rounding at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, describe, floats, mask_bytes, number
from rollmath.conventions import Convention
from rollmath.groups import Groups, as_groups
from rollmath.ops import normalize

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Rewards:
    """The rewards of a call: ``x`` in float64, and ``seen``, the rows that take part (None for all)."""

    who: str
    x: NDArray[np.float64]
    groups: Groups
    seen: NDArray[np.uint8] | None
    rules: Convention
    kind: Kind = field(default_factory=Kind)
    dtype: Any = np.float64

    def normalize(self, x: NDArray[np.float64] | None = None, **options: Any) -> NDArray[np.float64]:
        """:func:`rollmath.ops.normalize` of the rewards, or of ``x``, by the rules of the call."""
        given: dict[str, Any] = {"groups": self.groups, "valid": self.seen, **options}
        values = self.x if x is None else x
        return np.asarray(normalize(values, convention=self.rules, name="rewards", who=self.who, **given))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The rows that take part, as one bool a row."""
        return np.ones(len(self.x), bool) if self.seen is None else self.seen != 0

    def wrap(self, out: NDArray[np.float64]) -> Array:
        """A float64 result in the kind and float type in which the rewards came."""
        return self.kind.wrap(out.astype(self.dtype, copy=False))


def read(
    who: str, rewards: ArrayLike, groups: Groups | ArrayLike, valid: ArrayLike | None, rules: Convention
) -> Rewards:
    """Rewards, groups and mask of a call, checked; under ``nan="omit"`` NaN rows take no part."""
    made = as_groups(who, groups)
    x, kind = floats(who, "rewards", rewards, length=len(made))
    seen = mask_bytes(who, "valid", valid, length=len(made))
    if rules.nan == "omit" and np.isnan(x).any():
        present = ~np.isnan(x)
        seen = (present if seen is None else present & (seen != 0)).view(np.uint8)
    return Rewards(who, x.astype(np.float64, copy=False), made, seen, rules, kind, x.dtype)


def positive(who: str, name: str, value: object) -> float:
    """A scalar option that must be positive and finite."""
    x = real(who, name, value)
    if not 0 < x < math.inf:
        msg = f"{who}(): {name!r} must be positive and finite, got {x}"
        raise ValueError(msg)
    return x


def real(who: str, name: str, value: object) -> float:
    """A scalar option as a float; a bool is none."""
    if isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a number, got {describe(value)}"
        raise TypeError(msg)
    return number(who, name, value)
