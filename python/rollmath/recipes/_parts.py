"""Parts of a recipe besides advantage and loss: which rollouts it trains on, and what is taken off long ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rollmath import group, select
from rollmath._arrays import ArrayLike, describe
from rollmath._checks import flag, real
from rollmath.groups import Groups
from rollmath.recipes._method import imported
from rollmath.recipes._options import Options, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _is_filter(function: Any) -> bool:
    """Whether it looks at rewards of groups."""
    return inspect.isfunction(function) and {"rewards", "groups", "valid"} <= set(
        inspect.signature(function).parameters
    )


@dataclass(frozen=True)
class Filter:
    """Which rollouts to train on: a function of :mod:`rollmath.select`, and what it looks at.

    Attributes:
        method: ``"nonzero_spread"`` or another function of :mod:`rollmath.select`, or the import path
            ``"package.module:function"`` of your own that takes the same ``(rewards, groups, *, valid)`` and returns a
            :class:`~rollmath.select.Selection`.
        options: its keywords.
        on: ``"rewards"``, as they were given; ``"shaped"``, after the penalties of the recipe; or the name of a column
            with one number a rollout, say the accuracy where rewards have other parts.

    Raises:
        ValueError: an unknown method.
        TypeError: options that it does not have.

    >>> Filter("mean_band", {"low": 0.1, "high": 0.9})
    Filter(method='mean_band', options={'low': 0.1, 'high': 0.9}, on='rewards')
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=Options)
    on: str = "rewards"

    def __post_init__(self) -> None:
        for name, wanted in (("method", str), ("on", str), ("options", Mapping)):
            value: object = getattr(self, name)
            if not isinstance(value, wanted):
                what = "a table from names to values" if wanted is Mapping else "a name"
                msg = f"Filter(): {name!r} must be {what}, got {describe(value)}"
                raise TypeError(msg)
        object.__setattr__(self, "options", Options(self.options))
        parameters = inspect.signature(self.function).parameters
        known = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY and n != "valid"]
        for name in self.options:
            if name not in known:
                msg = f"Filter(): {self.method!r} has no option {name!r}; it has: {nearest(name, known)}"
                raise TypeError(msg)
        lacking = [n for n in known if parameters[n].default is inspect.Parameter.empty and n not in self.options]
        if lacking:
            msg = (
                f"Filter(): {self.method!r} needs the option {lacking[0]!r}; give it in options={{{lacking[0]!r}: ...}}"
            )
            raise TypeError(msg)

    @property
    def function(self) -> Any:
        """The function of that name."""
        if ":" in self.method:
            return imported("Filter", "method", self.method)
        known = {name: f for name in select.__all__ if _is_filter(f := getattr(select, name))}
        if self.method not in known:
            msg = (
                f"Filter(): 'method' must be one of {nearest(self.method, known)}, or an import path "
                f"'package.module:function', got {self.method!r}"
            )
            raise ValueError(msg)
        return known[self.method]

    def __call__(
        self, values: ArrayLike, groups: Groups, *, valid: NDArray[Any] | None = None, nan: str = "raise"
    ) -> select.Selection:
        """The selection among the rollouts that take part; ``nan`` is for methods that have the option."""
        function = self.function
        options = dict(self.options)
        if "nan" in inspect.signature(function).parameters:
            options.setdefault("nan", nan)
        chosen = function(values, groups, valid=valid, **options)
        if not isinstance(chosen, select.Selection):
            msg = f"Filter(): 'method' {self.method!r} must return a Selection, got {describe(chosen)}"
            raise TypeError(msg)
        return chosen


@dataclass(frozen=True, kw_only=True)
class Overlong:
    """The penalty on long responses that is added to rewards: :func:`rollmath.group.overlong_penalty`.

    Lengths are the trained tokens of a rollout, all its rows; a column ``lengths=`` replaces them, say where tool
    output counts.

    Attributes:
        max_length: the limit.
        buffer: tokens before the limit over which the penalty grows.
        factor: the largest penalty.
        capped: False lets it grow past the limit, as verl does.
        truncated: rollouts that were cut off get the largest penalty, however short; needs the column ``truncated``.

    Raises:
        ValueError: a number out of range.
        TypeError: no number.

    >>> Overlong(max_length=20480, buffer=4096)
    Overlong(max_length=20480.0, buffer=4096.0, factor=1.0, capped=True, truncated=False)
    """

    max_length: float
    buffer: float
    factor: float = 1.0
    capped: bool = True
    truncated: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_length", real("Overlong", "max_length", self.max_length, above=0.0))
        for name in ("buffer", "factor"):
            object.__setattr__(self, name, real("Overlong", name, getattr(self, name), low=0.0))
        for name in ("capped", "truncated"):
            object.__setattr__(self, name, flag("Overlong", name, getattr(self, name)))
        try:
            self(())
        except ValueError as wrong:
            raise ValueError(str(wrong).replace("overlong_penalty()", "Overlong()", 1)) from None

    def __call__(self, lengths: ArrayLike, truncated: ArrayLike | None = None) -> Any:
        """The penalty of each rollout."""
        return group.overlong_penalty(
            lengths,
            max_length=self.max_length,
            buffer=self.buffer,
            factor=self.factor,
            capped=self.capped,
            truncated=truncated if self.truncated else None,
        )
