"""The list of checks, and what a check can say."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from rollmath._arrays import choice

_MODULES = {
    "advantage": ("_group_checks", "_reward_checks", "_id_checks", "_call_checks", "_token_checks", "_value_checks"),
    "loss": ("_loss_direction", "_loss_split", "_loss_mask", "_loss_call"),
}


class FailedCheckError(Exception):
    """What a check raises that found a defect; its text says which, with numbers."""


class NotApplicableError(Exception):
    """What a check raises that has nothing to say about this function."""


class CallError(Exception):
    """The function raised; ``error`` is what, ``text`` its type and first line."""

    def __init__(self, error: Exception) -> None:
        self.error, self.text = error, f"{type(error).__name__}: {_first_line(error)}"
        super().__init__(f"it raises {self.text}")

    @property
    def refusal(self) -> bool:
        """Whether it is how a function says no: TypeError, ValueError, RuntimeError (torch's), or an assertion."""
        return isinstance(self.error, TypeError | ValueError | RuntimeError | AssertionError)


class Remark(str):
    """What a check returns that found no defect, and something that one should know."""

    __slots__ = ()


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        id: its name, for ``only=``, ``exclude=``, ``allow=`` and ``pytest -k``.
        kind: of what: ``"advantage"`` or ``"loss"``.
        what: what must hold.
        why: what goes wrong where it does not, and where it did.
        needs: what the function must be able to take: ``"groups"``, ``"ids"``, ``"tokens"``, ``"values"``,
            ``"counts"``.
        run: the check itself: takes the wrapped function, returns what it saw.
    """

    id: str
    kind: str
    what: str
    why: str
    needs: frozenset[str]
    run: Callable[[Any], str]

    def __repr__(self) -> str:
        return f"Check({self.id!r})"


_REGISTERED: dict[str, dict[str, Check]] = {"advantage": {}, "loss": {}}
_F = TypeVar("_F", bound=Callable[[Any], str])
_W = TypeVar("_W")


def check(kind: str, *needs: str) -> Callable[[_F], _F]:
    """Registers a function as a check: its name is the id, its docstring "what" and, after a blank line, "why"."""

    def register(function: _F) -> _F:
        what, _, why = (inspect.getdoc(function) or "").partition("\n\n")
        name = function.__name__
        made = Check(name, kind, " ".join(what.split()), " ".join(why.split()), frozenset(needs), function)
        _REGISTERED[kind][name] = made
        return function

    return register


def checks(kind: str) -> tuple[Check, ...]:
    """All checks of ``"advantage"`` or ``"loss"`` functions, in the order in which they run.

    Raises:
        ValueError: another kind.
        ModuleNotFoundError: checks of losses, without torch.

    >>> checks("advantage")[0].what
    'It runs: four groups of four different rewards give as many finite numbers.'
    """
    choice("checks", "kind", kind, tuple(_MODULES))
    if kind == "loss":
        needs_torch("checks of losses need")
    modules = [importlib.import_module(f"rollmath.testing.{name}").__name__ for name in _MODULES[kind]]
    # Whichever of them was imported first.
    return tuple(sorted(_REGISTERED[kind].values(), key=lambda c: modules.index(c.run.__module__)))


def selected(who: str, kind: str, only: Iterable[str] | None, exclude: Iterable[str]) -> tuple[Check, ...]:
    """The checks of a kind that were asked for; ``runs`` always is."""
    found = checks(kind)
    only = names(who, "only", found, only) if only is not None else {c.id for c in found}
    kept = only - names(who, "exclude", found, exclude)
    return tuple(c for c in found if c.id in kept or c.id == "runs")


def names(who: str, argument: str, known: Iterable[Check], given: Iterable[str]) -> set[str]:
    """Ids of checks, from an option that lists them."""
    if isinstance(given, str) or not all(isinstance(x, str) for x in given):
        msg = f"{who}(): {argument!r} must be a sequence of ids of checks, got {given!r}"
        raise TypeError(msg)
    have = {c.id for c in known}
    unknown = sorted(set(given) - have)
    if unknown:
        msg = f"{who}(): {argument!r} must be of {', '.join(sorted(have))}, got {unknown[0]!r}"
        raise ValueError(msg)
    return set(given)


def needs_torch(what: str) -> None:
    """Raises ModuleNotFoundError where torch is missing; ``what`` begins the message."""
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as missing:
        if missing.name != "torch":
            raise
        msg = f"{what} torch: install rollmath with its 'torch' extra"
        raise ModuleNotFoundError(msg, name="torch") from None


def first_that_runs(ways: Iterable[_W], trial: Callable[[_W], Any]) -> _W:
    """The first way to call a function in which it does not raise.

    Raises:
        FailedCheckError: there is none; what it raised in each.
    """
    said: dict[str, str] = {}
    for way in ways:
        try:
            trial(way)
        except CallError as error:
            said.setdefault(error.text, str(way))
        except FailedCheckError:
            return way  # it runs; what it returns is for a check
        else:
            return way
    if len(said) == 1:
        return fail(f"it raises {next(iter(said))}")
    return fail("; ".join(f"with {way} it raises {text}" for text, way in list(said.items())[:3]))


def fail(text: str) -> NoReturn:
    """Ends a check that found a defect."""
    raise FailedCheckError(text)


def not_applicable(text: str) -> NoReturn:
    """Ends a check that has nothing to say."""
    raise NotApplicableError(text)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "...") if lines else "(no message)"
