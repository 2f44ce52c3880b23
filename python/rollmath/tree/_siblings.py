"""Standardisation of nodes among their siblings, in the words of a forest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rollmath.conventions import Convention
from rollmath.ops import normalize, segment_max, segment_min

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rollmath.forest import Forest


def among_siblings(
    who: str,
    forest: Forest,
    value: NDArray[np.float64],
    rules: Convention,
    *,
    center: Literal["mean", "loo"] = "mean",
    scale: Literal["std", "none"] = "std",
) -> NDArray[np.float64]:
    """``(value - center) / scale`` over the children of a parent; roots get 0."""
    _refuse(who, forest, value, rules, divided=scale == "std")
    return np.asarray(
        normalize(
            value,
            forest.siblings,
            center=center,
            scale=scale,
            valid=forest.parents >= 0,
            convention=rules,
            name="rewards",
            who=who,
        )
    )


def _refuse(who: str, forest: Forest, value: NDArray[np.float64], rules: Convention, *, divided: bool) -> None:
    """What ``singleton="raise"`` and ``zero_spread="raise"`` ask for."""
    if "raise" not in {rules.singleton, rules.zero_spread}:
        return
    families = forest.siblings
    above = forest.parents[families.first]
    if rules.singleton == "raise" and (bad := np.flatnonzero((families.counts == 1) & (above >= 0))).size:
        fix = "choose singleton='zero', 'raw', 'abs' or 'nan'"
        msg = f"{who}(): 'forest' has an only child, node {families.first[bad[0]]} below node {above[bad[0]]}; {fix}"
        raise ValueError(msg)
    if rules.zero_spread == "raise" and divided:
        same = segment_min(value, families) == segment_max(value, families)
        if (bad := np.flatnonzero(same & (families.counts > 1))).size:
            fix = "choose zero_spread='zero', 'unscaled' or 'nan'"
            msg = f"{who}(): 'rewards' give the siblings below node {above[bad[0]]} equal values, no spread; {fix}"
            raise ValueError(msg)
