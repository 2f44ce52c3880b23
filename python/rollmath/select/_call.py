"""What a function that selects takes, read from its signature, so that recipes and ranks can call any of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rollmath._arrays import describe
from rollmath.select._selection import Selection

#: Ids that a function takes: one a rollout, or prompts that are all different.
_IDS = ("groups", "prompts")
#: What callers supply themselves.
_SUPPLIED = frozenset({"valid", "uid", "seed", "nan"})


@dataclass(frozen=True)
class Signature:
    """A function and its parameters."""

    name: str
    call: Callable[..., Any]
    parameters: Mapping[str, inspect.Parameter]
    positional: tuple[str, ...]
    #: The parameter that takes groups, or prompts.
    ids: str

    @cached_property
    def values(self) -> str | None:
        """The parameter that takes one number a rollout, which stands before the ids; None if there is none."""
        return self.positional[0] if self.positional[0] != self.ids else None

    @cached_property
    def open(self) -> bool:
        """Whether it takes keywords of any name."""
        return any(p.kind is p.VAR_KEYWORD for p in self.parameters.values())

    def takes(self, name: str) -> bool:
        """Whether it has a parameter of that name."""
        return name in self.parameters

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Parameters that take one value a rollout, besides the values and the ids."""
        return tuple(
            name
            for name, p in self.parameters.items()
            if name not in {self.values, self.ids, *_SUPPLIED} and (name == "ties" or "ArrayLike" in str(p.annotation))
        )

    @cached_property
    def options(self) -> tuple[str, ...]:
        """Parameters that are the same for all rollouts, or that name one of the columns."""
        return tuple(
            name
            for name, p in self.parameters.items()
            if name not in {self.values, self.ids, "valid", "uid"}
            and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}
        )

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Those of :attr:`options` and positional ones that have no default."""
        named = (*self.options, *(n for n in self.positional if n not in {self.values, self.ids, *self.options}))
        return tuple(n for n in named if self.parameters[n].default is inspect.Parameter.empty)

    def __call__(self, who: str, values: Any, ids: Any, given: Mapping[str, Any]) -> Selection:
        """The selection of these values and ids, with all else by name.

        Raises:
            TypeError: it returns something else.
        """
        named = {self.ids: ids, **given} | ({} if self.values is None else {self.values: values})
        args = []
        for name in self.positional:
            if name not in named:
                break
            args.append(named.pop(name))
        chosen = self.call(*args, **named)
        if not isinstance(chosen, Selection):
            msg = f"{who}(): 'method' {self.name!r} must return a Selection, got {describe(chosen)}"
            raise TypeError(msg)
        return chosen


def signature_of(who: str, call: Callable[..., Any], name: str | None = None) -> Signature:
    """How to call a function that selects; ``name`` is what messages call it.

    Raises:
        TypeError: it is none, or takes no ids.
    """
    short = name or str(getattr(call, "__name__", type(call).__name__))
    fix = "a function of values and groups that returns a Selection, such as rollmath.select.max_variance"
    if not callable(call):
        msg = f"{who}(): 'method' must be {fix}, got {describe(call)}"
        raise TypeError(msg)
    try:
        parameters = dict(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        msg = f"{who}(): 'method' {short!r} must have a signature that Python can read; wrap it in a function"
        raise TypeError(msg) from None
    positional = tuple(n for n, p in parameters.items() if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD})
    ids = next((n for n in _IDS if n in positional), positional[1] if len(positional) > 1 else None)
    if ids is None:
        msg = f"{who}(): 'method' must be {fix}, but {short!r} takes no groups"
        raise TypeError(msg)
    return Signature(short, call, parameters, positional, ids)


def selects(function: Any) -> bool:
    """Whether it is a function of groups of rollouts that returns a Selection."""
    if not inspect.isfunction(function):
        return False
    found = inspect.signature(function)
    returned = found.return_annotation
    return {"groups", "valid"} <= set(found.parameters) and (returned is Selection or returned == "Selection")
