"""What was asked of a trainer, as its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import describe
from rollmath.adapters.trl._config import kl_of, objective_of
from rollmath.adapters.trl._effects import check_kl, check_options
from rollmath.loss import PPO, Aggregation, Objective
from rollmath.loss._aggregate import as_aggregation
from rollmath.loss._mismatch_compose import Corrections, as_correction
from rollmath.recipes import Advantage, Filter, Recipe, get, names
from rollmath.recipes._options import nearest

if TYPE_CHECKING:
    from rollmath.adapters.trl._batch import TRLBatch

#: What a recipe decides by itself.
PARTS = ("advantage", "filter", "objective", "aggregation", "kl", "correction")
#: Columns of a recipe that the trainer knows by itself.
SUPPLIED = ("logprobs", "truncated", "seed")
#: Fields of a rollout_func that a method on trees takes, if they are there: see rollmath.adapters.trl.tree_rollout.
PATHS = ("paths", "path_lengths")
#: Fields that a method on steps takes besides its states, likewise.
STEPS = ("actions", "turns", "step_rewards")


@dataclass(frozen=True)
class Settings:
    """The parts of a trainer; None stands for TRL's own.

    Attributes:
        who: the trainer's class, for messages.
        grpo: a GRPO trainer, not an RLOO trainer.
        recipe: makes advantages and the selection; its loss is in the fields below.
        from_config: advantages as TRL's configuration says, by our functions.
        advantage: a function of a TRLBatch.
        filter: a function of rewards and groups.
        objective: of the loss; None leaves the loss to TRL.
        aggregation: with the counts of the whole optimiser step; None is what TRL's loss_type divides by.
        kl: term of the loss.
        correction: of the mismatch.
        entropy: coefficient of the bonus that the recipe has; else the configuration's.
        group_by: column of group ids; None is TRL's position.
        columns: name of a parameter to name of the column that it is read from.
        trees: whether advantages are those of trees of rollouts.
        optional: columns that are read where rollouts have them.
    """

    who: str
    grpo: bool
    recipe: Recipe | None = None
    from_config: bool = False
    advantage: Callable[..., Any] | None = None
    filter: Callable[..., Any] | None = None
    objective: Objective | None = None
    aggregation: Aggregation | None = None
    kl: Objective | None = None
    correction: Corrections | None = None
    entropy: float = 0.0
    group_by: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    trees: bool = False
    optional: tuple[str, ...] = ()

    @property
    def values(self) -> bool:
        """Whether advantages are ours."""
        return self.recipe is not None or self.from_config or self.advantage is not None

    @property
    def looks(self) -> bool:
        """Whether the generation batch of all ranks is looked at."""
        return self.values or self.filter is not None or self.group_by is not None


def settings_of(who: str, args: Any, *, grpo: bool, recipe: Any, **given: Any) -> Settings:
    """The settings from the arguments of the mixin.

    Raises:
        ValueError: arguments that exclude each other; options of TRL that would have no effect or are missing.
        TypeError: arguments of the wrong type.
    """
    parts = {name: given.pop(name) for name in PARTS}
    made = Settings(who, grpo, group_by=given["group_by"], columns=_columns(who, given["columns"]))
    if recipe is not None:
        if both := [name for name in PARTS if parts[name] is not None]:
            msg = (
                f"{who}(): 'recipe' and {both[0]!r} both say what to compute; give one, or "
                f"recipe=recipes.get(...).replace({both[0]}=...)"
            )
            raise ValueError(msg)
        made = _from_config(made, args) if recipe == "trl" else _from_recipe(made, recipe)
    else:
        made = _from_parts(made, args, parts)
    check_kl(made, args, recipe)
    check_options(made, args, from_config=recipe == "trl" or (recipe is None and parts["objective"] is None))
    return made


def _from_config(made: Settings, args: Any) -> Settings:
    made = dataclasses.replace(made, from_config=True)
    if not made.grpo:
        return made  # the ratio of whole sequences, a product, is not here; RLOO's loss stays TRL's
    return dataclasses.replace(made, objective=objective_of(made.who, args), kl=kl_of(made.who, args))


def _from_recipe(made: Settings, recipe: Any) -> Settings:
    if isinstance(recipe, str) and ":" not in recipe and recipe not in names():
        known = nearest(recipe, ("trl", *names()))
        msg = f"{made.who}(): 'recipe' must be one of {known} ('trl': what the config says), got {recipe!r}"
        raise ValueError(msg)
    chosen = get(recipe)
    return dataclasses.replace(
        made,
        recipe=chosen,
        objective=chosen.objective,
        aggregation=as_aggregation(made.who, chosen.aggregation),
        kl=chosen.kl,
        correction=_correction(made.who, chosen.correction),
        entropy=chosen.entropy,
        columns={name: name for name in chosen.needs if name not in SUPPLIED} | dict(made.columns),
        trees=chosen.advantage.of_rollouts,
        optional=_optional(chosen.advantage),
    )


def _optional(advantage: Advantage) -> tuple[str, ...]:
    names = PATHS if advantage.of_rollouts else STEPS if advantage.on_steps else ()
    return tuple(name for name in names if name in advantage.takes)


def _from_parts(made: Settings, args: Any, parts: dict[str, Any]) -> Settings:
    who = made.who
    if isinstance(parts["advantage"], Advantage):
        method, columns = parts["advantage"], made.columns
        named = {name: name for name in method.needs} | dict(columns)
        made = dataclasses.replace(made, columns=named, trees=method.of_rollouts, optional=_optional(method))
        parts["advantage"] = partial(_by_method, Recipe(name=method.name, advantage=method, objective=PPO()))
    for name in ("advantage", "filter"):
        if parts[name] is not None and not callable(parts[name]):
            takes = "a TRLBatch, or a recipes.Advantage" if name == "advantage" else "rewards and groups"
            msg = f"{who}(): {name!r} must be a function of {takes}, got {describe(parts[name])}"
            raise TypeError(msg)
    chosen = parts["filter"]
    if isinstance(chosen, Filter) and (
        set(chosen.reads) - {"rewards"} or chosen.draws or chosen.statistics is not None
    ):
        msg = (
            f"{who}(): 'filter' must look at rewards alone (on='rewards') and leave statistics and the seed of a step "
            f"to a recipe, got {chosen}; put it in a recipe"
        )
        raise ValueError(msg)
    for name in ("objective", "kl"):
        if parts[name] is not None and not isinstance(parts[name], Objective):
            like = "PPO()" if name == "objective" else "KL(0.001)"
            msg = f"{who}(): {name!r} must be an Objective, such as {like}, got {describe(parts[name])}"
            raise TypeError(msg)
    aggregation = None if parts["aggregation"] is None else as_aggregation(who, parts["aggregation"])
    correction = _correction(who, parts["correction"])
    objective, kl = parts["objective"], parts["kl"]
    if objective is None and not (aggregation is kl is correction is None):
        if not made.grpo:
            msg = f"{who}(): 'objective' must be given with aggregation, kl or correction: RLOO's own has no parts here"
            raise ValueError(msg)
        objective = objective_of(who, args)
    if objective is not None and kl is None and made.grpo:
        kl = kl_of(who, args)
    return dataclasses.replace(
        made,
        advantage=parts["advantage"],
        filter=parts["filter"],
        objective=objective,
        aggregation=aggregation,
        kl=kl,
        correction=correction,
    )


def _by_method(recipe: Recipe, batch: TRLBatch) -> Any:
    """The advantages of a method by its name, with the columns that it takes."""
    known: dict[str, Any] = dict(batch.columns)
    rewards = batch.rewards
    if not batch.valid.all():
        known["valid"], rewards = batch.valid, np.where(batch.valid, rewards, np.float32(0))
    return recipe.advantages(rewards, batch.groups, rows=batch.rows, **known)


def _correction(who: str, correction: Any) -> Corrections | None:
    return None if correction is None else as_correction(who, correction)


def _columns(who: str, columns: Any) -> dict[str, str]:
    if isinstance(columns, Mapping):
        named = dict(columns)
    elif isinstance(columns, Iterable) and not isinstance(columns, str):
        named = {name: name for name in columns}
    else:
        msg = f"{who}(): 'columns' must be names of columns, or a mapping to them, got {columns!r}; put one in a tuple"
        raise TypeError(msg)
    if bad := [x for x in (*named, *named.values()) if not isinstance(x, str)]:
        msg = f"{who}(): 'columns' must hold strings, got {bad[0]!r}"
        raise TypeError(msg)
    return named
