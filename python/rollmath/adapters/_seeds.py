"""Seeds of steps, from the seed that a filter has in its options."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from rollmath.groups import as_groups
from rollmath.ops._hash import Uids

if TYPE_CHECKING:
    from rollmath._arrays import ArrayLike
    from rollmath.groups import Groups
    from rollmath.recipes import Recipe


def seeded_by(who: str, recipe: Recipe, ids: Groups | ArrayLike, *, says: str = "", where: str = "") -> Recipe:
    """The recipe with a seed in its filter that is made of that in its options and of the ids of prompts, or a step.

    Trainers know rollouts by their places in the batch: by one seed a filter would draw the same places in every step.
    The order of the ids, and how often each comes, changes nothing.

    Raises:
        ValueError: a filter that draws, and has no seed; ``says`` and ``where`` tell why and how to give one.
    """
    part = recipe.filter
    if part is None:
        return recipe
    if part.draws:
        msg = f"{who}(): the filter {part.method!r} of recipe {recipe.name!r} draws by a seed, and {says}; set {where}"
        raise ValueError(msg)
    seed = part.options.get("seed")
    if seed is None:
        return recipe
    each = list(as_groups(who, ids).ids)
    words = Uids.of(who, each, len(each), name="groups").words(seed)
    of_step = int(np.bitwise_xor.reduce(words))
    return recipe.replace(filter=replace(part, options={**part.options, "seed": of_step}))
