"""What a convention is; :mod:`rollmath.conventions` has those of the frameworks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypedDict, get_args

from rollmath._arrays import Immutable, check_ddof, number

EpsPlace = Literal["add", "max", "sqrt", "where_positive"]
Singleton = Literal["zero", "raw", "abs", "nan", "raise"]
ZeroSpread = Literal["zero", "unscaled", "nan", "raise"]
Nan = Literal["raise", "omit", "propagate"]
Known = Literal["live", "golden", "read", "paper"]

_CHOICES = {"eps_place": EpsPlace, "singleton": Singleton, "zero_spread": ZeroSpread, "nan": Nan}


@dataclass(frozen=True)
class Convention:
    """The numerical choices of a normalisation.

    Attributes:
        ddof: the variance of ``n`` values divides by ``n - ddof`` (1: sample, 0: population).
        eps: guards the division.
        eps_place: the denominator for a standard deviation ``s``: ``"add"`` s + eps; ``"max"`` max(s, eps); ``"sqrt"``
            sqrt(s^2 + eps); ``"where_positive"`` s + eps if s > 0, else 1.
        singleton: what the only valid member x of a group gets: ``"zero"`` 0; ``"raw"`` mean 0 and standard deviation
            1 are taken, so x / (1 + eps) or x; ``"abs"`` mean 0 and standard deviation abs(x); ``"nan"``; ``"raise"``.
        zero_spread: what a member gets where the spread that it is to be divided by is that of equal values (its
            group's, or that of the others in it for ``leave_one_out=True``):
            ``"zero"`` exactly 0; ``"unscaled"`` x - center; ``"nan"``; ``"raise"``.
        nan: ``"raise"`` a NaN or infinite value is an error; ``"omit"`` NaN is a missing value, kept out of the
            statistics and given 0, infinity is an error; ``"propagate"`` NaN makes its whole group NaN, and infinity
            makes it NaN or infinite, as arithmetic has it.
    """

    ddof: int = 1
    eps: float = 1e-6
    eps_place: EpsPlace = "add"
    singleton: Singleton = "zero"
    zero_spread: ZeroSpread = "zero"
    nan: Nan = "raise"

    def __post_init__(self) -> None:
        for name, literal in _CHOICES.items():
            choices, value = get_args(literal), getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                listed = ", ".join(map(repr, choices))
                msg = f"Convention(): {name!r} must be one of {listed}, got {value!r}"
                raise ValueError(msg)
        # As plain numbers, so that equal conventions have equal reprs.
        object.__setattr__(self, "ddof", check_ddof("Convention", self.ddof, most=1))
        object.__setattr__(self, "eps", number("Convention", "eps", self.eps))
        if not 0 <= self.eps < float("inf"):
            msg = f"Convention(): 'eps' must be finite and not negative, got {self.eps!r}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class Whiten:
    """Whitening: ``(x - mean) / d(std)`` over all trained tokens, or all rollouts, of a batch.

    A step of its own that no method takes unless it is asked to. All equal values give exactly 0.

    Attributes:
        shift_mean: subtract the mean; if not, it is added back after the scaling, as verl's ``masked_whiten`` does.
        scale: divide by the standard deviation.
        ddof: the variance of ``n`` values divides by ``n - ddof``.
        eps: guards the division.
        eps_place: the denominator for a standard deviation ``s``: ``"sqrt"`` sqrt(s^2 + eps); ``"add"`` s + eps;
            ``"max"`` max(s, eps); ``"where_positive"`` s + eps if s > 0, else 1.
    """

    shift_mean: bool = True
    scale: bool = True
    ddof: int = 1
    eps: float = 1e-8
    eps_place: EpsPlace = "sqrt"

    def __post_init__(self) -> None:
        try:
            checked = Convention(ddof=self.ddof, eps=self.eps, eps_place=self.eps_place)
        except (TypeError, ValueError) as wrong:
            raise type(wrong)(str(wrong).replace("Convention()", "Whiten()", 1)) from None
        object.__setattr__(self, "ddof", checked.ddof)
        object.__setattr__(self, "eps", checked.eps)

        for name in ("shift_mean", "scale"):
            if not isinstance(getattr(self, name), bool):
                msg = f"Whiten(): {name!r} must be True or False, got {getattr(self, name)!r}"
                raise TypeError(msg)

    def divisor(self, std: float) -> float:
        """What to divide by for a standard deviation; NaN (too few values for one) gives 1."""
        if not self.scale or math.isnan(std):
            return 1.0
        match self.eps_place:
            case "sqrt":
                return math.sqrt(std * std + self.eps)
            case "add":
                return std + self.eps
            case "max":
                return max(std, self.eps)
        return std + self.eps if std > 0 else 1.0


class Override(TypedDict, total=False):
    """Keywords with which a method call changes single fields of its convention."""

    ddof: int
    eps: float
    eps_place: EpsPlace
    singleton: Singleton
    zero_spread: ZeroSpread
    nan: Nan


class Framework(Immutable, Mapping[str, Convention]):
    """Conventions of one framework, by method name; a method that it does not have raises and lists what it has.

    Args:
        name: the name of the convention.
        methods: a :class:`Convention` for each method.
        version: of the framework, as its package says.
        known: how the conventions are known: ``"live"`` (a test runs the framework's own function beside ours),
            ``"golden"`` (a test compares with its recorded outputs), ``"read"`` (its source was read, not run) or
            ``"paper"`` (the papers' text); one for all methods or, as a mapping, one for some, the others being
            ``"read"``.
        options: by method, keywords with which that method of ours does what the framework does besides.

    Attributes:
        options: as given: ``rm.temporal.gae(rewards, values, mask=mask, **rm.conventions.VERL.options["gae"])``.
    """

    name: str
    version: str
    known: Mapping[str, Known]
    options: Mapping[str, Mapping[str, Any]]
    _methods: Mapping[str, Convention]

    def __init__(
        self,
        name: str,
        methods: Mapping[str, Convention],
        *,
        version: str = "",
        known: Known | Mapping[str, Known] = "read",
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        options = options or {}
        names = [*methods, *(m for m in options if m not in methods)]
        how = dict.fromkeys(names, known) if isinstance(known, str) else {m: known.get(m, "read") for m in names}
        self._fill(
            name=name,
            version=version,
            known=MappingProxyType(how),
            options=MappingProxyType({m: MappingProxyType(dict(o)) for m, o in options.items()}),
            _methods=MappingProxyType(dict(methods)),
        )

    def __getitem__(self, method: str) -> Convention:
        try:
            return self._methods[method]
        except KeyError:
            has = ", ".join(self._methods)
            msg = f"{self.name} has no convention for {method!r}; it has: {has}. Pass a Convention instead"
            raise ValueError(msg) from None

    def get(self, method: str, default: Any = None) -> Any:
        """The convention for ``method``, or ``default`` if there is none."""
        return self._methods.get(method, default)

    def __contains__(self, method: object) -> bool:
        return method in self._methods

    def __iter__(self) -> Iterator[str]:
        return iter(self._methods)

    def __len__(self) -> int:
        return len(self._methods)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Framework):
            return NotImplemented
        mine = (self.name, self.version, self._methods, self.known, self.options)
        return mine == (other.name, other.version, other._methods, other.known, other.options)

    def __hash__(self) -> int:
        # So that a recipe that holds one can be a key.
        return hash(frozenset(self._methods.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        options = {method: dict(given) for method, given in self.options.items()}
        return _framework, (self.name, dict(self._methods), self.version, dict(self.known), options)

    def __repr__(self) -> str:
        return f"Framework({self.name!r}: {', '.join(self)})"


def _framework(name: str, methods: Any, version: str, known: Any, options: Any) -> Framework:
    return Framework(name, methods, version=version, known=known, options=options)


def resolve(who: str, method: str, convention: Convention | Framework, override: Override) -> Convention:
    """The convention of a call: that of the framework for ``method``, with single fields overridden."""
    if isinstance(convention, Framework):
        try:
            convention = convention[method]
        except ValueError as wrong:
            msg = f"{who}(): 'convention': {wrong}"
            raise ValueError(msg) from None
    if not isinstance(convention, Convention):
        msg = f"{who}(): 'convention' must be a Convention or a framework of rollmath.conventions, got {convention!r}"
        raise TypeError(msg)
    names = {f.name for f in fields(Convention)}
    for name in override:
        if name not in names:
            listed = ", ".join(sorted(names))
            msg = f"{who}() got an unexpected keyword argument {name!r}; a convention has: {listed}"
            raise TypeError(msg)
    try:
        return replace(convention, **override)
    except (TypeError, ValueError) as wrong:
        raise type(wrong)(str(wrong).replace("Convention()", f"{who}()", 1)) from None
