"""Checks of the types of arguments, typed so that a checker does not take them for granted."""

from __future__ import annotations

from rollmath._arrays import describe


def require(who: str, name: str, x: object, kind: type, wanted: str) -> None:
    """Raises TypeError unless ``x`` is an instance (and no class) of ``kind``."""
    if isinstance(x, type) or not isinstance(x, kind):
        got = f"the class {x.__name__}" if isinstance(x, type) else describe(x)
        msg = f"{who}(): {name!r} must be {wanted}, got {got}"
        raise TypeError(msg)
