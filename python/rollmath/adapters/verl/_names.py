"""All estimators by name: the methods, and recipes beside them."""

from __future__ import annotations

from rollmath.adapters.verl._estimators import METHODS, Estimator


def estimators() -> dict[str, Estimator]:
    """By name without ``rollmath/``."""
    return dict(METHODS)
