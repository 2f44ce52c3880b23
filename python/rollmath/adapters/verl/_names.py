"""All estimators and objectives by name: methods and losses, and the recipes that do not share a name with one."""

from __future__ import annotations

from rollmath import recipes
from rollmath.adapters.verl._estimators import METHODS, Estimator
from rollmath.adapters.verl._objectives import LOSSES, Always, Loss
from rollmath.adapters.verl._recipes import ANY, objective_of, recipe_estimator

#: By name without ``rollmath/``. Recipes whose name is that of a method are that method in verl's convention;
#: ``rollmath/recipe`` has them all.
ESTIMATORS: dict[str, Estimator] = dict(METHODS) | {
    name: Estimator(name, recipe_estimator(name)) for name in (ANY, *recipes.names()) if name not in METHODS
}


def losses() -> dict[str, Loss]:
    """By name without ``rollmath/``; one of a recipe is aggregated as the recipe says."""
    out = dict(LOSSES)
    for name in recipes.names():
        if name not in out:
            objective, mode = objective_of(name)
            out[name] = Loss(Always(objective), mode=mode)
    return out
