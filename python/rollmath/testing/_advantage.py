"""An advantage function of anyone's behind one interface, however it wants to be called."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import choice, is_tensor
from rollmath.testing import _cases
from rollmath.testing._registry import CallError, fail, first_that_runs, needs_torch, not_applicable
from rollmath.testing._ways import MASKS, Way, abilities, arguments_of, ways

if TYPE_CHECKING:
    from numpy.typing import NDArray

STYLES = ("rollouts", "consecutive", "tokens", "values", "verl")
_WHO = "check_advantage"
#: Tokens of a rollout where a function of tokens is asked for one number a rollout.
_LENGTH = 3
_NO_IDS = "its groups are slices by position, without ids"


@dataclass(frozen=True)
class Call:
    """One call: what went in, copies of it from before, what came out."""

    given: tuple[Any, ...]
    before: tuple[Any, ...]
    out: Any


class AdvantageFunction:
    """Calls a function in its style. ``has`` tells what it takes; see :func:`rollmath.testing.check_advantage`."""

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        style: str = "rollouts",
        arrays: str | None = None,
        formula: str | None = None,
        mask_dtype: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(fn):
            msg = f"{_WHO}(): 'fn' must be callable, got {type(fn).__name__}"
            raise TypeError(msg)
        choice(_WHO, "style", style, STYLES)
        if arrays is not None:
            choice(_WHO, "arrays", arrays, ("numpy", "torch"))
        if mask_dtype is not None:
            choice(_WHO, "mask_dtype", mask_dtype, MASKS)
        self.fn, self.style, self.formula, self.options = fn, style, formula, dict(options or {})
        self.name = getattr(fn, "__qualname__", type(fn).__name__).rpartition("<locals>.")[2]
        self._arguments = arguments_of(fn) if style == "verl" else ()
        self._asked, self._mask_asked = arrays, mask_dtype
        self.has = abilities(style, self._arguments)
        if arrays == "torch" or style == "verl":
            needs_torch(f"{_WHO}(): tensors need")
        self.last: Call | None = None

    @cached_property
    def way(self) -> Way:
        """What it is given: the first that it runs with."""
        return first_that_runs(ways(self.fn, self.style, self.has, self._asked, self._mask_asked), self._trial)

    def _trial(self, way: Way) -> None:
        if "groups" in self.has:
            self.rollouts(_cases.EVEN, _cases.EVEN_IDS, way=way)
        if "tokens" in self.has:
            self.tokens(_cases.ROWS, way=way)

    @cached_property
    def works(self) -> bool:
        """Whether it runs at all."""
        try:
            self._trial(self.way)
        except Exception:  # whatever it is, 'runs' tells
            return False
        return True

    def rollouts(
        self,
        rewards: Sequence[float] | NDArray[Any],
        ids: Sequence[Any] | NDArray[Any],
        *,
        dtype: str | None = None,
        way: Way | None = None,
    ) -> NDArray[np.float64]:
        """One advantage a rollout, float64 ``[N]``; ids of an array may become strings, those of a list may not."""
        way = way or self.way
        given = np.asarray(rewards)
        if self.style in {"rollouts", "consecutive"}:
            out = self._call((self._floats(given, way, dtype), self._groups(ids, way)))
            return self._shaped(out, given.shape)
        mask = np.ones((len(given), _LENGTH), dtype=bool)
        tokens = np.zeros(mask.shape, given.dtype)
        tokens[:, -1] = given
        rows = _cases.TokenRows(tokens, mask, ids, np.zeros(mask.shape))
        return self.tokens(rows, dtype=dtype, way=way)[0][:, 0]

    def tokens(
        self, rows: _cases.TokenRows, *, dtype: str | None = None, way: Way | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Advantages ``[B, T]``, and the returns if the function returns a tuple."""
        way = way or self.way
        rewards, mask = self._floats(rows.rewards, way, dtype), self._given(np.array(rows.mask, dtype=way.mask), way)
        if self.style == "verl":
            out = self._by_name(rows, rewards, mask, way, dtype)
        elif self.style == "values":
            out = self._call((rewards, self._floats(rows.values, way, dtype), mask))
        else:
            out = self._call((rewards, mask, self._groups(rows.ids, way)))
        second = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        first = self._shaped(out, rows.mask.shape)
        return first, None if second is None else self._shaped(second, rows.mask.shape)

    def _by_name(self, rows: _cases.TokenRows, rewards: Any, mask: Any, way: Way, dtype: str | None) -> Any:
        known: dict[str, Callable[[], Any]] = {
            "token_level_rewards": lambda: rewards,
            "response_mask": lambda: mask,
            "index": lambda: self._groups(rows.ids, way),
            "values": lambda: self._floats(rows.values, way, dtype),
            "gamma": lambda: 1.0,
            "lam": lambda: 1.0,
            "config": lambda: None,
        }
        given = {name: make() for name, make in known.items() if name in self._arguments and name not in self.options}
        return self._call((), **given)

    def _call(self, given: tuple[Any, ...], **named: Any) -> Any:
        before = tuple(_copy(x) for x in (*given, *named.values()))
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                out = self.fn(*given, **named, **self.options)
        except Exception as error:
            raise CallError(error) from error
        self.last = Call((*given, *named.values()), before, out)
        return out

    def _groups(self, ids: Sequence[Any] | NDArray[Any], way: Way) -> Any:
        """The ids, as the style has them; for "consecutive", the size of the groups, which must be slices."""
        if self.style == "consecutive":
            sizes = np.unique(np.asarray(ids), return_counts=True)[1]
            if len(set(sizes)) > 1 or (np.diff(np.asarray(ids)) < 0).any():
                not_applicable(_NO_IDS)
            return int(sizes[0])
        if self.style == "verl" and isinstance(ids, np.ndarray):  # verl's ids are UUIDs
            ids = [f"prompt-{i}" for i in ids.tolist()]
        if self.style != "verl" and all(isinstance(i, int | np.integer) for i in ids):
            whole = np.array(ids, dtype=np.int64)
            return _tensor(whole) if way.ids == "torch" else whole
        out = np.empty(len(ids), dtype=object)
        out[:] = list(ids)
        return out

    def _floats(self, x: NDArray[Any], way: Way, dtype: str | None) -> Any:
        return self._given(np.array(x, dtype=dtype or ("float32" if way.arrays == "torch" else "float64")), way)

    @staticmethod
    def _given(x: NDArray[Any], way: Way) -> Any:
        return _tensor(x) if way.arrays == "torch" else x

    @staticmethod
    def _shaped(out: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
        first = to_numpy(out[0] if isinstance(out, tuple) and out else out)
        if first.shape != shape:
            fail(f"it returns the shape {list(first.shape)} for rewards of shape {list(shape)}")
        return first


def _tensor(x: NDArray[Any]) -> Any:
    import torch  # noqa: PLC0415 - only where the function takes tensors

    return torch.from_numpy(x)


def to_numpy(x: Any) -> NDArray[np.float64]:
    """Float64, a copy."""
    if is_tensor(x):
        return np.array(x.detach().double().cpu().numpy())
    try:
        if x is not None:  # which would be NaN
            return np.array(x, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    return fail(f"it returns {'None' if x is None else type(x).__name__}, not an array of numbers")


def _copy(x: Any) -> Any:
    if is_tensor(x):
        return x.clone()
    return x.copy() if isinstance(x, np.ndarray) else x
