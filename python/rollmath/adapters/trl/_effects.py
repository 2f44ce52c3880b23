"""What is set and would have no effect, in TRL's configuration or our arguments: nothing is ignored in silence."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rollmath.adapters.trl._config import OF_ADVANTAGE, OF_OBJECTIVE
from rollmath.loss import KL

if TYPE_CHECKING:
    from rollmath.adapters.trl._settings import Settings
    from rollmath.loss import Objective


def check_kl(made: Settings, args: Any, recipe: Any) -> None:
    """The reference is TRL's, which has one if ``beta`` is not 0."""
    who, kl = made.who, made.kl
    penalty = 0.0 if made.recipe is None else made.recipe.reward_kl
    if kl is not None and not made.grpo:
        msg = f"{who}(): 'kl' must be None: RLOOTrainer puts beta times the KL into the reward; set beta in the config"
        raise ValueError(msg)
    if kl is not None and not isinstance(kl, KL) and args.beta == 0:
        msg = f"{who}(): 'kl' needs a reference model, which TRL loads if beta is not 0; set beta in the config"
        raise ValueError(msg)
    wanted = kl.coef if isinstance(kl, KL) else penalty
    if (isinstance(kl, KL) or penalty or (recipe is not None and made.objective is not None)) and args.beta != wanted:
        msg = (
            f"{who}(): beta={args.beta} of the config must be {wanted:g}, the coefficient of the KL; TRL loads the "
            "reference model by it"
        )
        raise ValueError(msg)


def check_options(made: Settings, args: Any, *, from_config: bool) -> None:
    """Raises for what is set and would have no effect; ``from_config``: whether the objective is TRL's."""
    who = made.who
    unused: list[tuple[str, str]] = []
    if made.values and not made.from_config:
        unused += [(name, "of TRL's advantages; say it in 'advantage'") for name in OF_ADVANTAGE]
    if made.objective is not None and not from_config:
        unused += [(name, "of TRL's objective; say it in 'objective'") for name in OF_OBJECTIVE]
        if made.aggregation is not None:
            unused.append(("loss_type", "of TRL's objective and division; say it in 'objective' and 'aggregation'"))
    if getattr(made.kl, "importance", None) == "ratio":  # its default is True, which no one has asked for
        unused.append(("use_bias_correction_kl", "of TRL's KL; say it in 'kl': KL(..., importance=None)"))
    if made.recipe is not None and made.recipe.entropy:
        unused.append(("entropy_coef", "beside the recipe's; say it in the recipe"))
    defaults = {f.name: f.default for f in dataclasses.fields(args)}
    for name, why in unused:
        if name in defaults and getattr(args, name) != defaults[name]:
            msg = f"{who}(): {name}={getattr(args, name)!r} of the config would have no effect here; it is {why}"
            raise ValueError(msg)
    _check_columns(made)
    if made.objective is not None:
        _check_loss(made, made.objective, args)


def _check_columns(made: Settings) -> None:
    """Raises for columns that nothing reads."""
    who = made.who
    if made.columns and made.recipe is None and made.advantage is None:
        msg = f"{who}(): 'columns' would have no effect here; they are of 'advantage' or a recipe, give one"
        raise ValueError(msg)
    by_prompt = made.aggregation is not None and made.aggregation.unit == "prompt"
    if made.group_by is not None and not (made.values or made.filter is not None or by_prompt):
        msg = (
            f"{who}(): 'group_by' would have no effect here, for advantages are TRL's, whose groups are positions; "
            "give 'advantage', or recipe='trl' for those of the configuration by our functions"
        )
        raise ValueError(msg)


def _check_loss(made: Settings, objective: Objective, args: Any) -> None:
    """Raises for what a loss of ours cannot have in TRL's loop."""
    who = made.who
    corrections = made.correction.parts if made.correction is not None else ()
    if objective.coupling == "batch" or any(getattr(part, "normalize", False) for part in corrections):
        msg = (
            f"{who}(): 'objective' and 'correction' must not need statistics of the whole step before its first loss, "
            f"which TRL's loop has no place for, got {objective} and {corrections}"
        )
        raise ValueError(msg)
    if getattr(args, "use_adaptive_entropy", False):
        msg = f"{who}(): use_adaptive_entropy has no counterpart here; set entropy_coef, or leave the loss to TRL"
        raise ValueError(msg)
    if made.correction is not None and _reweighted(args):
        msg = (
            f"{who}(): 'correction' and TRL's vllm_importance_sampling_correction would both reweight; set "
            "vllm_importance_sampling_correction=False"
        )
        raise ValueError(msg)
    generation, window = args.steps_per_generation, args.gradient_accumulation_steps
    if made.aggregation is not None and generation % window:
        msg = (
            f"{who}(): steps_per_generation={generation} must be a multiple of gradient_accumulation_steps={window}, "
            "or the tokens of an optimiser step are not known at its first micro-batch; leave 'aggregation' to TRL"
        )
        raise ValueError(msg)


def _reweighted(args: Any) -> bool:
    """Whether TRL multiplies losses by its importance weights of vLLM."""
    return bool(args.use_vllm and getattr(args, "vllm_importance_sampling_correction", False))
