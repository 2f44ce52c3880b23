"""States that are saved and restored: what must agree, and the columns of a PromptSampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import describe, integers
from rollmath._checks import rows, whole
from rollmath.select._prompt_index import PromptIndex
from rollmath.select._prompt_priority import LARGEST, PromptStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Of the saved state of a sampler; another one is refused.
VERSION = 1
_FLOATS, _INTS = ("alpha", "beta", "priority"), ("visits", "last_step")
#: The largest number of a step or an iteration.
LAST = np.iinfo(np.int64).max


@dataclass
class Columns:
    """One number a prompt each."""

    index: PromptIndex
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    priority: NDArray[np.float64]
    visits: NDArray[np.int64]
    last_step: NDArray[np.int64]
    #: 0 for the retired.
    active: NDArray[np.uint8]
    #: The largest step so far.
    step: int

    @classmethod
    def unseen(cls, index: PromptIndex, first: int, prior: tuple[float, float]) -> Columns:
        """Of the prompts from position ``first`` on; their priorities are still to come."""
        n = len(index) - first
        # Filled, not zeroed: zeros get their memory page by page, and updates would wait for it.
        alpha, beta = (np.full(n, x) for x in prior)
        return cls(index, alpha, beta, np.zeros(n), np.full(n, 0), np.full(n, -1), np.ones(n, np.uint8), -1)

    def followed_by(self, new: Columns) -> Columns:
        """With the columns of added prompts below, and their index, which has both."""
        pairs = {name: (getattr(self, name), getattr(new, name)) for name in self._arrays()}
        joined: dict[str, Any] = {name: np.concatenate(pair) for name, pair in pairs.items()}
        return replace(new, **joined, step=self.step)

    def copied(self) -> Columns:
        """With arrays of its own; the index never changes."""
        return replace(self, **{name: getattr(self, name).copy() for name in self._arrays()})

    def stats(self, first: int = 0, end: int | None = None) -> PromptStats:
        """Of all up to the position ``end``, if the first of them has the position ``first``."""
        some = slice(None if end is None else end - first)
        positions = np.arange(first, first + len(self.alpha))[some]
        return PromptStats(positions, self.alpha[some], self.beta[some], self.visits[some], self.last_step[some])

    @classmethod
    def _arrays(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name not in ("index", "step")]


def saved(options: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Plain values and arrays of their own."""
    return {
        "version": VERSION,
        "options": _plain(options),
        "prompts": columns.index.saved(),
        "step": columns.step,
        "retired": columns.active == 0,
        **{name: getattr(columns, name).copy() for name in (*_FLOATS, *_INTS)},
    }


def restored(who: str, state: Any, options: Mapping[str, Any], index: PromptIndex) -> Columns:
    """The checked columns of a state that was saved."""
    check_state(who, state, {"version", "options", "prompts", "step", "retired", *_FLOATS, *_INTS}, VERSION)
    check_options(who, state["options"], options)
    made = check_prompts(who, state["prompts"], index)
    n, found = len(made), dict[str, Any]()
    for name in _FLOATS:
        x = rows(who, name, state[name], n, "len(prompts)")[0]
        if name == "priority":
            check_column(who, name, x, (x >= 0) & (x <= LARGEST), f"between 0 and {LARGEST:g}")
        else:
            check_column(who, name, x, (x >= 0) & np.isfinite(x), "finite and not negative")
        found[name] = np.array(x)
    with np.errstate(over="ignore"):
        both = found["alpha"] + found["beta"]
    check_column(who, "alpha + beta", both, (both > 0) & np.isfinite(both), "finite and positive")
    for name, least in zip(_INTS, (0, -1), strict=True):
        whole_numbers = integers(who, name, state[name], length=n, why="len(prompts)")[0]
        check_column(who, name, whole_numbers, whole_numbers >= least, f"at least {least}")
        found[name] = np.array(whole_numbers)
    retired = np.asarray(state["retired"])
    if retired.dtype != bool or retired.shape != (n,):
        msg = f"{who}(): 'retired' must have {n} bools (= len(prompts)), got {describe(retired)} of {retired.size}"
        raise ValueError(msg)
    last = found["last_step"]
    seen = (last >= 0) == (found["visits"] > 0)
    check_column(who, "last_step", last, seen, "-1 where 'visits' is 0, and nowhere else")
    step = whole(who, "step", state["step"], least=int(last.max(initial=-1)), most=LAST)
    return Columns(made, **found, active=(~retired).astype(np.uint8), step=step)


def check_state(who: str, state: Any, names: set[str], version: int) -> None:
    """Raises unless ``state`` is a mapping of these names, and of this version."""
    if not isinstance(state, Mapping):
        msg = f"{who}(): 'state' must be what state_dict() returned, got {describe(state)}"
        raise TypeError(msg)
    if "version" in state and not _same(state["version"], version):
        msg = f"{who}(): 'state' must be of version {version}, got version {state['version']!r}"
        raise ValueError(msg)
    if state.keys() != names:
        msg = f"{who}(): 'state' must have {', '.join(sorted(names))}, got {', '.join(map(str, state))}"
        raise ValueError(msg)


def check_options(who: str, theirs: Any, options: Mapping[str, Any]) -> None:
    """Raises unless a state was saved with these options."""
    ours = _plain(options)
    if not isinstance(theirs, Mapping) or theirs.keys() != ours.keys():
        msg = f"{who}(): 'options' must be a mapping of {', '.join(ours)}, got {theirs!r}"
        raise ValueError(msg)
    saved_with = _plain(theirs)
    for name, x in ours.items():
        if not _same(saved_with[name], x):
            got = saved_with[name]
            msg = f"{who}(): 'state' must have been saved with {name}={x!r}, as set here, got {name}={got!r}"
            raise ValueError(msg)


def check_prompts(who: str, prompts: Any, index: PromptIndex) -> PromptIndex:
    """The prompts of a state, of which those of ``index`` are the first: positions would mean others else."""
    made = PromptIndex.of(who, prompts)
    if len(made) < len(index):
        msg = f"{who}(): 'state' must have the {len(index)} prompts known here, got {len(made)}"
        raise ValueError(msg)
    i = made.differs_from(index)
    if i is not None:
        at = f"{index.name(i)!r} at position {i} as here, got {made.name(i)!r}"
        msg = f"{who}(): 'state' must have the same prompts in the same order, {at}"
        raise ValueError(msg)
    return made


def check_column(who: str, name: str, x: NDArray[Any], good: NDArray[np.bool_], must: str) -> None:
    """Raises unless all of a column are ``good``."""
    if len(bad := np.flatnonzero(~good)):
        msg = f"{who}(): {name!r} must be {must}, got {x[bad[0]]} at index {bad[0]}"
        raise ValueError(msg)


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """As they are saved: a callable by that word, pairs as lists."""
    named = {name: "callable" if callable(x) else x for name, x in options.items()}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in named.items()}


def _same(a: Any, b: Any) -> bool:
    """Equal plain values: an array is not one."""
    a = a.item() if isinstance(a, np.generic) else a
    return type(a) is type(b) and bool(a == b)
