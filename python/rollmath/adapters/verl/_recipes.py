"""Recipes as estimators and losses of verl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rollmath import Ragged, Rows, recipes
from rollmath.adapters._seeds import seeded_by
from rollmath.adapters.verl._batch import Batch
from rollmath.adapters.verl._config import check_known
from rollmath.adapters.verl._estimators import Both, outcome
from rollmath.adapters.verl._steps import rows_of_responses, steps_estimator
from rollmath.recipes._serial import FIELDS

if TYPE_CHECKING:
    from rollmath.loss import Aggregation, Objective
    from rollmath.recipes import Recipe

#: Columns of paths, see ``Recipe.prepare``.
PATHS = ("paths", "path_lengths")
#: What says "the recipe of the table ``algorithm.rollmath``".
ANY = "recipe"


def recipe_estimator(name: str) -> Callable[[Batch, Mapping[str, Any]], Both]:
    """The recipe of that name with what ``algorithm.rollmath`` changes; ``recipe``: the one that the table names."""

    def run(batch: Batch, options: Mapping[str, Any]) -> Both:
        table = {key: value for key, value in options.items() if key not in {"columns", "rewards"}}
        if name == ANY and not table:
            msg = f"{batch.who}(): needs the table 'algorithm.rollmath', such as {{recipe: dapo}}"
            raise ValueError(msg)
        # verl has its own penalty in the reward, algorithm.use_kl_in_reward.
        recipe = recipes.get({"recipe": name, **table} if name != ANY else table).replace(reward_kl=0.0)
        if recipe.filter is not None:
            says, where = "verl tells an estimator none", "algorithm.rollmath.filter.options.seed"
            recipe = seeded_by(batch.who, recipe, batch.column("uid"), says=says, where=where)
        renamed = dict(options.get("columns", {}))
        if recipe.advantage.on_steps:
            return steps_estimator(batch, recipe, renamed, rewards=options.get("rewards"))
        check_known(batch.who, "option 'algorithm.rollmath'", [key for key in options if key == "rewards"], FIELDS)
        return _run(batch, recipe, renamed)

    return run


def _run(batch: Batch, recipe: Recipe, renamed: dict[str, str]) -> Both:
    known = {*recipe.needs, *recipe.advantage.takes, "truncated"} - {"forest", "node"}
    check_known(batch.who, "column in 'algorithm.rollmath.columns'", renamed, known)
    wanted = {name for name in known if name in recipe.needs or name in renamed}
    if recipe.advantage.on_forest:
        # The paths of a rollout are read where it has them; prefixes have no other form here.
        there = {name for name in PATHS if batch.columns.get(name) is not None}
        wanted |= (there & known) if recipe.advantage.of_rollouts else {"paths"}
    columns = {name: batch.column(renamed.get(name, name), asked_for=name) for name in wanted}
    if recipe.advantage.of_rollouts:
        rows, real = rows_of_responses(batch, tokens="paths" not in columns)
    else:
        rows, real = _rows(batch)
    made = recipe.prepare(batch.scores(), batch.column("uid"), rows=rows, **columns)
    if made.level == "rollout":
        return outcome(batch, np.asarray(made.advantages))
    dense = np.zeros(batch.trained.shape, np.float32)
    if isinstance(made.advantages, Ragged):
        dense[real] = made.advantages.to_padded(width=dense.shape[1])
        return dense, dense
    values = np.zeros(len(dense), np.float32)
    values[real] = np.asarray(made.advantages)
    dense = batch.trained.expand(values)
    return dense, dense


def _rows(batch: Batch) -> tuple[Rows, NDArray[np.bool_]]:
    """The rows of the batch without those that fill it up, and which these are."""
    trained, n = batch.trained, batch.trained.shape[0]
    index = np.arange(n) if batch.sessions is None else batch.sessions.index
    real = index >= 0
    if trained.mask is None:
        return Rows(index[real], trained.counts[real]), real
    return Rows(index[real], np.full(int(real.sum()), trained.shape[1]), mask=trained.mask[real]), real


def objective_of(name: str) -> tuple[Objective, str | None]:
    """The objective of a recipe and verl's name of its aggregation; None if verl has none."""
    # Its constant is verl's loss_scale_factor; any but 1 says that there is one.
    recipe = recipes.get(name, max_length=2) if name == "dr_grpo" else recipes.get(name)
    from rollmath.loss import Aggregation  # noqa: PLC0415 - torch and the objectives load when a loss is computed

    how = recipe.aggregation if isinstance(recipe.aggregation, Aggregation) else Aggregation.named(recipe.aggregation)
    return recipe.objective, mode_of(how)


def mode_of(how: Aggregation) -> str | None:
    """The ``loss_agg_mode`` that is this aggregation; rows and rollouts are the same to verl's losses."""
    unit = "row" if how.unit == "rollout" else how.unit
    modes = {("token", "mean"): "token-mean", ("batch", "sum"): "token-sum", ("row", "mean"): "seq-mean-token-mean"}
    if (unit, how.within) == ("row", "sum"):
        return "seq-mean-token-sum" if how.divisor == 1.0 else "seq-mean-token-sum-norm"
    return modes.get((unit, how.within))
