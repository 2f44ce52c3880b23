"""What a recipe decides of the rollouts of all ranks, once they are gathered."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath import _checks
from rollmath.distributed._columns import Column
from rollmath.distributed._exchange import ranks, stable
from rollmath.distributed._gather import Gathered
from rollmath.distributed._select import part_of
from rollmath.groups import Groups, _restore
from rollmath.recipes import Recipe, _prepare
from rollmath.recipes._advantage import compute
from rollmath.recipes._method import method_of
from rollmath.rows import Rows
from rollmath.select import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Columns besides those of the caller, by names that no keyword can have.
SHAPED, COPIES, _IDS = "rewards after penalties", "copies", "rollout ids"


@dataclass(frozen=True)
class Sent:
    """What a rank sends: columns of rollouts, and of its rows the trained tokens and the rollout."""

    table: dict[str, Column]
    trained: NDArray[np.int64]
    rollout: NDArray[np.int64]


@dataclass(frozen=True)
class Decided:
    """What a recipe made of the rollouts of all ranks, the same on every rank."""

    #: Advantages are those of rollouts or rows; None where each rank has its own.
    found: _prepare.Decided
    #: Rows of all ranks without their tokens: as many as are trained of each.
    trains: Rows
    metrics: dict[str, float]
    #: Rows of each rank.
    sizes: list[int]
    #: Advantages of rollouts that a method of steps goes on from, None if there are none.
    base: Any = None

    def rows_of(self, rank: int) -> slice:
        """The rows of a rank among all."""
        start = sum(self.sizes[:rank])
        return slice(start, start + self.sizes[rank])

    def selection(self, whole: Gathered) -> Selection:
        """Of the rollouts of this rank."""
        return part_of(whole, self.found.chosen)


def words_of(recipe: Any) -> str:
    """Words that are the same on two ranks if the recipes are."""
    if not isinstance(recipe, Recipe):
        return "no recipe"
    text = stable(repr([(f.name, getattr(recipe, f.name)) for f in dataclasses.fields(recipe)]))
    return f"{recipe!r} {hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def by_each_rank(recipe: Recipe) -> bool:
    """Whether each rank computes advantages of its own rows: of tokens, of trees, and of steps."""
    return recipe.advantage.per_token or of_structure(recipe)


def of_structure(recipe: Recipe) -> bool:
    """Whether its method looks at what rollouts of a prompt share: trees, or steps."""
    return recipe.advantage.on_forest or recipe.advantage.on_steps


def check_method(who: str, recipe: Recipe) -> None:
    """Raises for a method that needs tokens of other ranks."""
    method = method_of(recipe.advantage.method)
    alone = not method.own and (method.name.startswith("temporal.") or method.name == "group.reinforce_pp")
    coupled = method.per_token and not alone
    start = recipe.advantage.start
    base = method if start is None else method_of(start.method)
    if base.own and "rows" in base.parameters:
        method = base
    if recipe.filter is not None and "advantages" in recipe.filter.reads and by_each_rank(recipe):
        msg = (
            f"{who}(): 'recipe' {recipe.name!r} has a filter of advantages, but those of {recipe.advantage.name!r} are "
            "computed on each rank, after the selection; bring all rollouts to one rank and call recipe.prepare there"
        )
        raise ValueError(msg)
    if coupled or (method.own and (of_structure(recipe) or "rows" in method.parameters)):
        msg = (
            f"{who}(): 'recipe' {recipe.name!r} has the advantage {method.name!r}, which looks at the tokens of other "
            "rollouts, but tokens stay on their ranks; bring each group to one rank and call recipe.prepare there"
        )
        raise ValueError(msg)


def check_structure(who: str, recipe: Recipe, whole: Gathered) -> None:
    """Raises where a method on trees or steps would see a part of a group alone."""
    rank_of = np.repeat(np.arange(len(whole.sizes)), whole.sizes)
    apart = np.flatnonzero(rank_of != rank_of[whole.groups.first][whole.groups.index])
    if len(apart) and of_structure(recipe):
        what = "compares branches of trees" if recipe.advantage.on_forest else "merges the steps of rollouts"
        at = int(whole.groups.index[apart[0]])
        on = np.unique(rank_of[whole.groups.rows(at)]).tolist()
        msg = (
            f"{who}(): 'groups' must each be on one rank for the advantage {recipe.advantage.name!r}, which {what}, "
            f"but {whole.groups.ids[at]!r} is on {ranks(on)}; send all rollouts of a prompt to one"
        )
        raise ValueError(msg)


def rollout_ids(rows: Rows) -> dict[str, Groups]:
    """The ids of the rollouts as a column."""
    return {_IDS: Groups(list(rows.rollouts.ids))}


def decide(
    who: str, recipe: Recipe, whole: Gathered, parts: list[Sent], for_method: set[str], seed: int | None
) -> Decided:
    """Filter, advantages of rollouts or rows, metrics; ``for_method`` are the columns that the method takes."""
    rows = _rows(who, whole, parts)
    x, back = _checks.rows(who, "rewards", whole.rewards, len(whole))
    cut = whole.columns.get("truncated")
    step = _prepare.Step(
        who=who,
        rewards=whole.rewards,
        x=x,
        back=back,
        groups=whole.groups,
        rows=rows,
        columns={name: y for name, y in whole.columns.items() if name in for_method},
        given=whole.columns,
        truncated=None if cut is None else _checks.mask(who, "truncated", cut, len(whole)),
        copies=copies if (copies := whole.columns.get(COPIES)) is not None and copies.any() else None,
        seed=seed,
    )
    penalised = whole.columns.get(SHAPED)
    shaped = whole.rewards if penalised is None else penalised
    found = _prepare.decide(recipe, step, shaped, None if by_each_rank(recipe) else shaped)
    masked = rows.keep(found.kept_rows) if found.values is None else _prepare.masked(recipe, step, found)[0]
    trains = Rows(rows.rollouts, masked.trained)
    # What each rank computes is measured there, too.
    metrics = _prepare.metrics_over(recipe, step, penalised, found, trains)
    start = recipe.advantage.start
    # Of rollouts, and so over all of them; some methods look at the whole batch.
    base = None if start is None else compute(who, start, shaped, step.groups, rows, step.columns, found.valid)
    base = base[0] if isinstance(base, tuple) else base
    return Decided(found, trains, metrics, [len(part.trained) for part in parts], base)


def _rows(who: str, whole: Gathered, parts: list[Sent]) -> Rows:
    """The rows of all ranks, of which nothing is known but how many tokens train."""
    ids = whole.columns[_IDS]
    if ids.n_groups < len(ids):
        twice = np.flatnonzero(ids.counts > 1)[0]
        on = [whole.where(int(row))[0] for row in ids.rows(int(twice))]
        msg = f"{who}(): 'rows' must have rollout ids that are distinct over all ranks, but {ids.ids[twice]!r} is on "
        raise ValueError(msg + ranks(on))
    starts = np.cumsum(whole.sizes) - whole.sizes
    index = np.concatenate([part.rollout + start for part, start in zip(parts, starts, strict=True)])
    return Rows(_restore(index, ids.ids), np.concatenate([part.trained for part in parts]))
