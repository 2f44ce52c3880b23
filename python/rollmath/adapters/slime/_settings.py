"""What the arguments of slime say: the recipe, if there is one, and what its parallelism allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollmath.recipes import Recipe

#: Estimators of slime with one number a sample.
GROUPED = ("grpo", "gspo", "cispo", "reinforce_plus_plus_baseline")


def recipe_of(args: Any) -> Recipe | None:
    """``args.rollmath``, which slime takes from its ``--custom-config-path``: the name or the table of a recipe.

    Raises:
        ValueError: a recipe on trees or steps, or one that drops tokens of advantage 0.
    """
    given = getattr(args, "rollmath", None)
    if given is None:
        return None
    from rollmath import recipes  # noqa: PLC0415 - needs torch, which the process of the rollouts may do without

    recipe = given if isinstance(given, recipes.Recipe) else recipes.get(given)
    of = recipe.advantage
    if of.on_forest or of.on_steps or recipe.zeros == "drop":
        what = f"advantage={of.name!r}" if of.on_forest or of.on_steps else "zeros='drop'"
        fix = "steps of samples" if of.on_steps else "a mask that depends on advantages"
        fix = "trees of samples" if of.on_forest else fix
        msg = f"args.rollmath: recipe {recipe.name!r} has {what}, but no function that slime calls can have {fix}"
        raise ValueError(msg)
    return recipe


def whole_rows(who: str, args: Any, what: str, instead: str) -> None:
    """Raises ValueError where context parallelism splits the tokens of a sample over ranks."""
    size = getattr(args, "context_parallel_size", 1)
    if size > 1:
        msg = (
            f"{who}(): 'args.context_parallel_size' must be 1 for {what}, which looks at whole samples, got {size}: "
            f"each rank has only its slices of them; {instead}"
        )
        raise ValueError(msg)


def check_sizes(who: str, name: str, found: int, lengths: Any) -> None:
    """Raises ValueError unless a packed tensor has the tokens of whole samples."""
    expected = sum(int(n) for n in lengths)
    if found != expected:
        msg = (
            f"{who}(): {name!r} must have {expected} positions (= the sum of 'response_lengths'), got {found}; under "
            "context parallelism a rank has slices of samples, which this function cannot take"
        )
        raise ValueError(msg)
