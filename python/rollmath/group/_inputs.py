"""The rewards of a group method, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import ArrayLike, mask_bytes
from rollmath._checks import Back, rows
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
    wrap: Back

    def normalize(self, x: NDArray[np.float64] | None = None, **options: Any) -> NDArray[np.float64]:
        """:func:`rollmath.ops.normalize` of the rewards, or of ``x``, by the rules of the call."""
        given: dict[str, Any] = {"groups": self.groups, "valid": self.seen, **options}
        values = self.x if x is None else x
        return np.asarray(normalize(values, convention=self.rules, name="rewards", who=self.who, **given))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The rows that take part, as one bool a row."""
        return np.ones(len(self.x), bool) if self.seen is None else self.seen != 0


def read(
    who: str, rewards: ArrayLike, groups: Groups | ArrayLike, valid: ArrayLike | None, rules: Convention
) -> Rewards:
    """Rewards, groups and mask of a call, checked; under ``nan="omit"`` NaN rows take no part."""
    made = as_groups(who, groups)
    x, back = rows(who, "rewards", rewards, len(made))
    seen = mask_bytes(who, "valid", valid, length=len(made))
    if rules.nan == "omit" and np.isnan(x).any():
        present = ~np.isnan(x)
        seen = (present if seen is None else present & (seen != 0)).view(np.uint8)
    return Rewards(who, x, made, seen, rules, back)
