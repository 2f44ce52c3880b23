"""What a recipe does in slime's hooks."""

from __future__ import annotations

from typing import Any

import numpy as np

from rollmath.adapters._seeds import seeded_by
from rollmath.adapters.slime._advantages import TOKEN_METHODS
from rollmath.adapters.slime._samples import Batch
from rollmath.conventions import Whiten
from rollmath.recipes import Advantage, Recipe
from rollmath.recipes import Batch as Prepared


def rewards_of(who: str, recipe: Recipe, batch: Batch) -> list[float]:
    """The advantages of the recipe, one a sample, or the rewards after penalties where its method works on tokens.

    Marks samples that the recipe does not train: ``remove_sample``.
    """
    if recipe.advantage.per_token:
        made = _without_advantage(who, recipe, batch)
        values = batch.per_sample(np.asarray(made.rewards))
    else:
        made = _prepare(who, recipe, batch)
        found = np.asarray(made.advantages)
        values = found if made.level == "row" else batch.per_sample(found)
    for at in np.flatnonzero(~made.selection.mask[batch.rows.rollouts.index]).tolist():
        batch.samples[at].remove_sample = True
    return [float(x) for x in values]


def filtered(who: str, recipe: Recipe, batch: Batch) -> tuple[bool, str | None]:
    """Whether the recipe trains any rollout of a group, and if not, why.

    Raises:
        ValueError: a filter that looks at other groups, too.
    """
    part = recipe.filter
    if part is not None and (part.per_batch or "advantages" in part.reads):
        what = "compares rollouts of different prompts" if part.per_batch else "looks at advantages"
        msg = (
            f"{who}(): the filter {part.method!r} of recipe {recipe.name!r} {what}, and slime calls this function with "
            "one prompt at a time; leave --dynamic-sampling-filter-path out: post_process_rewards has the whole batch, "
            "and applies the filter there"
        )
        raise ValueError(msg)
    report = _without_advantage(who, recipe, batch).selection.report
    if report.kept_rollouts:
        return True, None
    reason = report.dropped[0].reason.replace(" ", "_")
    return False, f"{reason}_{batch.rewards[0]:.1f}" if reason == "no_spread" else reason


def token_method(who: str, recipe: Recipe, args: Any) -> tuple[str, dict[str, Any], Whiten | None] | None:
    """Method, options and whitening of a recipe with one number a token; None if it has one a rollout.

    Raises:
        ValueError: a method that slime has not what it takes for; a KL penalty that is not slime's.
    """
    advantage = recipe.advantage
    if not advantage.per_token:
        return None
    if advantage.name not in TOKEN_METHODS:
        msg = (
            f"{who}(): recipe {recipe.name!r} has the method {advantage.name!r}, but of those with one number a token "
            f"only {' and '.join(TOKEN_METHODS)} can be had in slime"
        )
        raise ValueError(msg)
    if recipe.reward_kl != args.kl_coef:
        msg = (
            f"{who}(): 'args.kl_coef' must be {recipe.reward_kl} (= reward_kl of recipe {recipe.name!r}), got "
            f"{args.kl_coef}: slime computes the reference and the KL by it; pass --kl-coef {recipe.reward_kl}"
        )
        raise ValueError(msg)
    options = advantage.settings()
    whiten = options.pop("whiten", Whiten() if advantage.name == "group.reinforce_pp" else None)
    return advantage.name, options, whiten


def _prepare(who: str, recipe: Recipe, batch: Batch) -> Prepared:
    if recipe.reward_kl:
        msg = (
            f"{who}(): recipe {recipe.name!r} has reward_kl={recipe.reward_kl}, but slime makes rewards before there "
            "are log-probabilities; set reward_kl to 0 in the recipe and take a KL term of the loss (--use-kl-loss)"
        )
        raise ValueError(msg)
    says, where = "slime tells its hooks none", "options: {seed: 0} in the filter"
    recipe = seeded_by(who, recipe, batch.groups, says=says, where=where)
    columns: dict[str, Any] = {}
    for name in recipe.needs:
        columns[name] = batch.truncated() if name == "truncated" else batch.column(who, name)
    return recipe.prepare(batch.rewards, batch.groups, rows=batch.rows, **columns)


def _without_advantage(who: str, recipe: Recipe, batch: Batch) -> Prepared:
    """Penalties and selection alone."""
    cheap = Advantage("group.dr_grpo", convention=recipe.advantage.rules or "DEFAULT")
    return _prepare(who, recipe.replace(advantage=cheap, reward_kl=0.0), batch)
