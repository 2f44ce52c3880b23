"""Rollouts that are chosen among without a number of their own: by groups, ids and preference alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rollmath._arrays import ArrayLike, Kind, is_tensor
from rollmath.groups import Groups, as_groups
from rollmath.select._candidates import Candidates, read


def members(
    who: str,
    groups: Groups | ArrayLike,
    *others: Any,
    valid: ArrayLike | None = None,
    ties: ArrayLike | None = None,
    uid: Groups | ArrayLike | None = None,
    seed: int | None = None,
) -> Candidates:
    """The candidates, all with the number 0; of the kind of the first tensor among ``groups`` and ``others``.

    Raises:
        ValueError: wrong lengths; an uid twice; a negative seed.
        TypeError: wrong dtype or rank.
    """
    made = as_groups(who, groups)
    found = read(who, np.zeros(len(made)), made, valid=valid, ties=ties, uid=uid, seed=seed)
    tensor = next((x for x in (groups, *others) if is_tensor(x)), None)
    return found if tensor is None else replace(found, kind=Kind(tensor.device))
