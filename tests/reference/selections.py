"""Calls of every function of rollmath.select that selects rollouts, for tests over all that is exported."""

import inspect
from functools import cache

import numpy as np

import rollmath as rm
from rollmath.select import Selection, _call

#: What options get that have no default, by name.
NEEDED = {
    "keep": 3, "seed": 7, "target": 0.5, "low": 0.2, "high": 0.9, "below": 0.7, "multiple": 4, "threshold": 0.5,
}  # fmt: skip
#: Options that a function takes in place of these, or must have besides.
OWN: dict[str, dict] = {"depo": {"share": 0.3}}


@cache
def functions():
    """Those that take groups, by name."""
    return {name: f for name in rm.select.__all__ if _call.selects(f := getattr(rm.select, name))}


@cache
def of_prompts():
    """Those that take prompts, by name."""
    found = {}
    for name in rm.select.__all__:
        f = getattr(rm.select, name)
        takes = inspect.signature(f) if inspect.isfunction(f) else None
        if takes is not None and "prompts" in takes.parameters and takes.return_annotation in {"Selection", Selection}:
            found[name] = f
    return found


@cache
def signature(name):
    """How one of them is called."""
    return _call.signature_of("test", {**functions(), **of_prompts()}[name])


def variants(name):
    """Names of columns and options of some calls of a function, by what they show."""
    takes = signature(name)
    needed = {n: NEEDED.get(n) for n in takes.required if n not in takes.columns} | OWN.get(name, {})
    lacking = [n for n, value in needed.items() if value is None]
    assert not lacking, f"{name} needs {lacking}: add values to NEEDED or OWN"
    first = tuple(n for n in takes.required if n in takes.columns)
    out = {"plain": (first, dict(needed))}
    if takes.takes("valid"):
        out["valid"] = ((*first, "valid"), dict(needed))
    if takes.takes("ties"):
        out["ties"] = ((*first, "ties", "valid"), dict(needed))
    if takes.takes("seed"):
        out["seed"] = (first, {**needed, "seed": 11})
    if takes.takes("short") and "keep" in needed:
        out["short"] = (first, {**needed, "keep": 6, "short": "drop"})
    if takes.takes("per") and "keep" in needed:
        out["batch"] = (first, {**needed, "per": "batch", "keep": 13})
    return out


def columns_of(data):
    """Columns by the names of parameters, of a batch of ``spread.rollouts``."""
    n = len(data["groups"])
    return {
        "ties": data["lengths"] % 4,
        "valid": data["valid"],
        "strata": data["strata"],
        "weights": data["positive"],
        "visits": data["lengths"] % 5,
        "by": data["rewards"],
        "index": np.arange(n),
    }


def call(name, data, rows, uid, columns, options, *, ids=None, values=None):
    """The function on some rows of a batch."""
    takes = signature(name)
    extra = {n: columns_of(data)[n][rows] for n in columns}
    if takes.takes("uid"):
        extra["uid"] = [uid[i] for i in rows]
    x = data["rewards"] if values is None else values
    groups = data["groups"] if ids is None else ids
    return takes("test", x[rows], [groups[i] for i in rows], {**extra, **options})
