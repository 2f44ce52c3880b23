"""A recipe over the rollouts of all ranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rollmath._arrays import ArrayLike
from rollmath.distributed._exchange import Compared, Found, exchange
from rollmath.distributed._gather import joined, sent
from rollmath.distributed._recipe import (
    COPIES,
    SHAPED,
    Decided,
    Sent,
    by_each_rank,
    check_method,
    check_structure,
    decide,
    rollout_ids,
    words_of,
)
from rollmath.distributed._recipe_tokens import own_advantages
from rollmath.groups import Groups
from rollmath.loss import Normalizer
from rollmath.loss._check import require
from rollmath.recipes import Batch, Recipe, _prepare
from rollmath.recipes._advantage import OF_BASE
from rollmath.rows import Rows


class Prepared(NamedTuple):
    """What a recipe made of the step of all ranks.

    Attributes:
        batch: the rows of this rank and their advantages; its selection is of the rollouts of this rank, its metrics
            are of all ranks.
        normalizer: counts of all ranks, of what is trained; the prompts are the groups.
    """

    batch: Batch
    normalizer: Normalizer


def prepare(
    recipe: Recipe, rewards: ArrayLike, groups: Groups | ArrayLike, rows: Rows, *, group: Any = None, **columns: Any
) -> Prepared:
    r"""``recipe.prepare`` over the rollouts of all ranks, and of it the part of this one, with the counts for the loss.

    Penalties are those of a rollout, and are taken where its tokens are. Filter and advantages see the rollouts of all
    ranks, and give every rollout the bits of ``recipe.prepare`` on one process. One collective, as in :func:`gather`.

    A method of tokens (``group.reinforce_pp``, those of :mod:`rollmath.temporal`) runs on the rows of this rank, and
    only its whitening ``(x_i - mean) / std`` is that of all ranks: one collective more for row partials, if it whitens,
    and one for counts and metrics. A method of :mod:`rollmath.tree` or :mod:`rollmath.graph` runs on the trees or steps
    of this rank, and so all rollouts of a group must be on one; one collective more for counts and metrics.

    Args:
        recipe: the same on all ranks, which is checked.
        rewards: one number a rollout of this rank, in the order of ``rows.rollouts.ids``.
        groups: a :class:`~rollmath.Groups` or one id a rollout, in that order; a group may lie on several ranks, if the
            method is not one of trees or steps.
        rows: the rows of this rank; may be none. All rows of a rollout are on one rank.
        group: the process group of the data-parallel ranks, as in :func:`gather`.
        **columns: as in ``recipe.prepare``; the same on all ranks (a ``forest`` is that of this rank, and so
            are ``steps``).

    Returns:
        ``(batch, normalizer)``: :class:`Prepared`.

    Raises:
        ValueError: what ``recipe.prepare`` and :func:`gather` raise, on all ranks; another recipe on another rank; a
            rollout id on two ranks; a method that looks at tokens of other rollouts, or a function of your own that
            asks for ``rows``, ``mask``, ``forest`` or ``steps``; for a method on trees or steps, a group on two ranks.
        TypeError: what these raise.

    >>> from rollmath import recipes, Rows
    >>> rows = Rows(["r1", "r2", "r3"], [2, 3, 1])
    >>> batch, normalizer = prepare(recipes.get("dapo"), [1.0, 0.0, 1.0], ["a", "a", "b"], rows)
    >>> batch.advantages.round(3).tolist(), batch.rows, normalizer
    ([0.707, -0.707, 0.0], Rows(3 rows of 3 rollouts, 5 of 6 positions trained),
     Normalizer(tokens=5, rows=2, rollouts=2, prompts=1, empty_rows=1, empty_rollouts=1, empty_prompts=1))
    """
    who = "prepare"
    own: Any = None

    def make() -> Sent:
        nonlocal own
        require(who, "recipe", recipe, Recipe, "a Recipe, such as recipes.get('grpo')")
        require(who, "rows", rows, Rows, "Rows")
        check_method(who, recipe)
        step = _prepare.read(recipe, who, rewards, groups, rows, columns)
        # Penalties look at the tokens of a rollout, and so are taken here.
        own = step, *_prepare.shaped_rewards(recipe, step)
        wanted = {*recipe.columns, "truncated"} if by_each_rank(recipe) else set(columns) - {"logprobs", "seed"}
        if recipe.advantage.start is not None:
            wanted |= {*recipe.advantage.start.takes, "lengths"}
        if recipe.filter is not None:
            wanted |= set(recipe.filter.reads)
        of_rollouts = {name: x for name, x in columns.items() if name in wanted} | rollout_ids(rows)
        if own[1] is not step.rewards:
            of_rollouts[SHAPED] = own[1]
        if recipe.advantage.on_forest:
            of_rollouts[COPIES] = np.zeros(rows.n_rollouts, bool) if step.copies is None else step.copies
        return Sent(sent(who, rewards, groups, of_rollouts), rows.trained, rows.rollouts.index)

    all_of_it = exchange(who, make, group, {"recipe": Compared(recipe, words_of), "seed": columns.get("seed")})
    step, shaped, token_rewards = own
    whole = joined(who, Found([part.table for part in all_of_it.parts], all_of_it.rank), rewards)
    try:
        check_structure(who, recipe, whole)
        every: Decided = decide(who, recipe, whole, all_of_it.parts, set(step.columns), step.seed)
    except (TypeError, ValueError) as error:
        if len(all_of_it.parts) == 1:
            raise
        raise whole.placed(error) from error
    kept = every.found.kept[whole.rows]
    valid = None if every.found.valid is None else every.found.valid[whole.rows]
    found = replace(every.found, valid=valid, kept=kept, kept_rows=kept[rows.rollouts.index])
    trains, metrics = every.trains, every.metrics
    if every.base is not None:
        step.columns[OF_BASE] = whole.cut(every.base, whole.rows)
    if by_each_rank(recipe):
        own = own_advantages(recipe, step, shaped if token_rewards is None else token_rewards, found, group)
        masked, values, level = own.rows, own.values, own.level
        trains, metrics = Rows(trains.rollouts, own.trained), metrics | own.metrics
    else:
        level = found.level
        values = whole.cut(found.values, whole.rows if level == "rollout" else every.rows_of(whole.rank))
        masked = _prepare.masked(recipe, step, replace(found, values=values))[0]
    batch = Batch(
        rows=masked,
        advantages=values,
        level=level,
        rewards=shaped,
        selection=every.selection(whole),
        metrics=metrics,
    )
    return Prepared(batch, Normalizer.local(trains, prompts=whole.groups))
