"""Parts of a recipe besides advantage and loss: which rollouts it trains on, and what is taken off long ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rollmath import group, select
from rollmath._arrays import ArrayLike, choice, describe
from rollmath._checks import flag, real
from rollmath.groups import Groups, as_groups
from rollmath.recipes._method import imported
from rollmath.recipes._options import Options, nearest
from rollmath.select._call import Signature, selects, signature_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: What a filter can look at without a column, see :attr:`Filter.on`.
SOURCES = ("rewards", "shaped", "advantages", "lengths", "rows")
_STATISTICS = ("before", "after")


@dataclass(frozen=True)
class Filter:
    """Which rollouts to train on: a function of :mod:`rollmath.select`, and what it looks at.

    Attributes:
        method: ``"nonzero_spread"`` or another function of :mod:`rollmath.select` that selects rollouts of groups, or
            the import path ``"package.module:function"`` of your own that takes the same
            ``(rewards, groups, *, valid)`` and returns a :class:`~rollmath.select.Selection`.
        options: its keywords. One that takes a value a rollout (``ties``) gets the name of a column, or of what ``on``
            can name: ``{"ties": "lengths"}``. Ids of rollouts (``uid``) are those of the rows.
        on: ``"rewards"``, as they were given; ``"shaped"``, after the penalties of the recipe; ``"advantages"``, those
            of the recipe's own method, from all rollouts that may take part; ``"lengths"``, the trained tokens of each
            rollout, or the column of that name; ``"rows"``, how many rows it is; or the name of a column with one
            number a rollout, say the accuracy where rewards have other parts.
        statistics: ``"after"``: the advantages are those among the rollouts that are kept; ``"before"``: those among
            all that may take part, and dropped ones get 0. None is what the method says
            (:attr:`SelectionReport.statistics <rollmath.select.SelectionReport>`), or ``"after"`` where it does not.

    Raises:
        ValueError: an unknown method or choice.
        TypeError: options that it does not have.

    >>> Filter("mean_band", {"low": 0.1, "high": 0.9})
    Filter(method='mean_band', options={'low': 0.1, 'high': 0.9}, on='rewards', statistics=None)
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=Options)
    on: str = "rewards"
    statistics: Literal["before", "after"] | None = None

    def __post_init__(self) -> None:
        who = "Filter"
        for name, wanted in (("method", str), ("on", str), ("options", Mapping)):
            value: object = getattr(self, name)
            if not isinstance(value, wanted):
                what = "a table from names to values" if wanted is Mapping else "a name"
                msg = f"{who}(): {name!r} must be {what}, got {describe(value)}"
                raise TypeError(msg)
        if self.statistics is not None:
            choice(who, "statistics", self.statistics, _STATISTICS)
        object.__setattr__(self, "options", Options(self.options))
        takes = self.signature
        for name, value in self.options.items():
            if name not in takes.options and not takes.open:
                msg = f"{who}(): {self.method!r} has no option {name!r}; it has: {nearest(name, takes.options)}"
                raise TypeError(msg)
            if name in takes.columns and not (value is None or isinstance(value, str)):
                msg = (
                    f"{who}(): {name!r} has one value a rollout, and so must name a column or one of "
                    f"{', '.join(map(repr, SOURCES))}, got {describe(value)}"
                )
                raise TypeError(msg)
        given = {*self.options, *self._read, "seed"}
        if lacking := [name for name in takes.required if name not in given]:
            msg = (
                f"{who}(): {self.method!r} needs the option {lacking[0]!r}; give it in options={{{lacking[0]!r}: ...}}"
            )
            raise TypeError(msg)
        if takes.values is None and self.on != "rewards":
            msg = f"{who}(): 'on' must be left out for {self.method!r}, which looks at no values, got {self.on!r}"
            raise ValueError(msg)
        if ":" not in self.method:
            self._of_little()  # a wrong option is found here, not after the first rollouts

    @property
    def function(self) -> Any:
        """The function of that name."""
        return self.signature.call

    @property
    def signature(self) -> Signature:
        """The same with what it takes."""
        return _signature(self.method)

    @property
    def _read(self) -> dict[str, str]:
        """Parameters that take one value a rollout, and what is read for each: a source, or a column."""
        takes, found = self.signature, {}
        # What a function of one's own needs, and no option says, is a column of that name.
        own = set(takes.required) - {"seed"} if ":" in self.method else set()
        for name in dict.fromkeys((*takes.columns, *takes.required)):
            source = self.options.get(name)
            if source is not None and name in takes.columns:
                found[name] = source
            elif source is None and name in takes.required and name in {*takes.columns, *own}:
                found[name] = name
        return found

    @property
    def reads(self) -> tuple[str, ...]:
        """All that it looks at, sources and columns."""
        on = () if self.signature.values is None else (self.on,)
        return tuple(dict.fromkeys((*on, *self._read.values())))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return tuple(name for name in self.reads if name not in SOURCES)

    @property
    def draws(self) -> bool:
        """Whether it needs a seed at each step."""
        # round_to_multiple does as its option says.
        needed = "seed" in self.signature.required or self.options.get("drop") == "random"
        return needed and self.options.get("seed") is None

    @property
    def per_batch(self) -> bool:
        """Whether it compares rollouts of different groups."""
        per = self.signature.parameters.get("per")
        # round_to_multiple always does.
        always = self.signature.takes("multiple")
        return always or self.options.get("per", None if per is None else per.default) == "batch"

    @property
    def taken(self) -> Literal["before", "after"] | None:
        """Which statistics: as given, or else as the method says of a small batch; None if neither says."""
        if self.statistics is not None:
            return self.statistics
        try:
            return self._of_little().report.statistics
        except Exception:
            return None

    def _of_little(self) -> select.Selection:
        """Of no rollouts; by a method of one's own, which may not expect that, of four."""
        takes, n = self.signature, 4 if ":" in self.method else 0
        known = {"valid": None, "uid": np.arange(n), "seed": 0, **dict.fromkeys(self._read, np.arange(n))}
        given = {name: x for name, x in known.items() if takes.takes(name)} | {
            name: x for name, x in self.options.items() if name not in self._read
        }
        if given.get("short", "raise") == "raise" and takes.takes("short"):
            given["short"] = "drop"
        return takes("Filter", np.arange(float(n)), Groups(np.arange(n) // 2), given)

    def __call__(
        self,
        values: ArrayLike | None,
        groups: Groups,
        *,
        valid: NDArray[Any] | None = None,
        nan: str = "raise",
        uid: Groups | ArrayLike | None = None,
        seed: int | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> select.Selection:
        """The selection among the rollouts that take part; ``nan``, ``uid`` and ``seed`` for methods that have these.

        Raises:
            ValueError: a column or a seed that is missing; what the method refuses.
            TypeError: the method returns something else.
        """
        takes, given = self.signature, dict(self.options)
        for name, source in self._read.items():
            if source not in (columns or {}):
                msg = f"Filter(): {self.method!r} needs the column {source!r}; put the filter in a recipe"
                raise ValueError(msg)
            given[name] = (columns or {})[source]
        if isinstance(split := given.get("split"), Mapping) and "strata" in given:
            given["split"] = _by_strata(split, given["strata"])
        if takes.takes("nan"):
            given.setdefault("nan", nan)
        if takes.takes("uid"):
            given["uid"] = uid
        if takes.takes("seed") and seed is not None:
            given["seed"] = seed
        if self.draws and seed is None:
            raise ValueError(_no_seed(self.method))
        return takes("Filter", values, groups, {**given, "valid": valid})


def _by_strata(split: Mapping[str, Any], strata: Any) -> dict[Any, Any]:
    """With integers as keys where strata are integers: names in tables are strings."""
    ids = as_groups("Filter", strata, name="strata").ids
    whole = bool(ids) and isinstance(ids[0], (int, np.integer)) and all(key.lstrip("-").isdecimal() for key in split)
    return {int(key) if whole else key: x for key, x in split.items()}


def _no_seed(method: str) -> str:
    return (
        f"Filter(): {method!r} draws by a seed, another one in every step: pass prepare(..., seed=step), or give one "
        "for all steps in options={'seed': 0}"
    )


@lru_cache(maxsize=256)
def _signature(method: str) -> Signature:
    if ":" in method:
        return signature_of("Filter", imported("Filter", "method", method), method)
    if method in select.__all__ and selects(found := getattr(select, method)):
        return signature_of("Filter", found, method)
    known = [name for name in select.__all__ if selects(getattr(select, name))]
    msg = (
        f"Filter(): 'method' must be one of {nearest(method, known)}, or an import path "
        f"'package.module:function', got {method!r}"
    )
    raise ValueError(msg)


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
