"""Recipes: named, serialisable compositions of filter, advantage, objective and aggregation."""

__all__: list[str] = []
