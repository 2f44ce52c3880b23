"""An advantage function of anyone's behind one interface, however it wants to be called."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import choice, is_tensor
from rollmath.testing import _cases
from rollmath.testing._registry import CallError, fail, not_applicable

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
        mask_dtype: str = "int64",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(fn):
            msg = f"{_WHO}(): 'fn' must be callable, got {type(fn).__name__}"
            raise TypeError(msg)
        choice(_WHO, "style", style, STYLES)
        if arrays is not None:
            choice(_WHO, "arrays", arrays, ("numpy", "torch"))
        choice(_WHO, "mask_dtype", mask_dtype, ("int64", "bool", "float32"))
        self.fn, self.style, self.formula = fn, style, formula
        self.mask_dtype, self.options = mask_dtype, dict(options or {})
        self.name = getattr(fn, "__qualname__", type(fn).__name__).rpartition("<locals>.")[2]
        self._arguments = arguments_of(fn) if style == "verl" else ()
        self._asked = "torch" if style == "verl" else arrays
        self.has = abilities(style, self._arguments)
        self.last: Call | None = None

    @cached_property
    def arrays(self) -> str:
        """What it is given: ``"numpy"`` or ``"torch"``."""
        if self._asked is not None:
            return self._asked
        try:
            self._trial("numpy")
        except CallError as first:
            try:
                self._trial("torch")
            except (CallError, ImportError):
                raise first from None
            return "torch"
        return "numpy"

    def _trial(self, arrays: str) -> None:
        if "groups" in self.has:
            self.rollouts(_cases.EVEN, _cases.EVEN_IDS, arrays=arrays)
        else:
            self.tokens(_cases.ROWS, arrays=arrays)

    @cached_property
    def works(self) -> bool:
        """Whether it runs at all."""
        try:
            self._trial(self.arrays)
        except Exception:  # whatever it is, 'runs' tells
            return False
        return True

    def rollouts(
        self,
        rewards: Sequence[float] | NDArray[Any],
        ids: Sequence[Any] | NDArray[Any],
        *,
        dtype: str | None = None,
        arrays: str | None = None,
    ) -> NDArray[np.float64]:
        """One advantage a rollout, float64 ``[N]``; ``ids`` of ints are what a style takes, unless they are objects."""
        kind = arrays or self.arrays
        given = np.asarray(rewards)
        if self.style in {"rollouts", "consecutive"}:
            out = self._call((self._floats(given, kind, dtype), self._groups(ids, kind)))
            return self._shaped(out, given.shape)
        mask = np.ones((len(given), _LENGTH), dtype=bool)
        tokens = np.zeros(mask.shape, given.dtype)
        tokens[:, -1] = given
        rows = _cases.TokenRows(tokens, mask, list(ids), np.zeros(mask.shape))
        return self.tokens(rows, dtype=dtype, arrays=kind)[0][:, 0]

    def tokens(
        self, rows: _cases.TokenRows, *, dtype: str | None = None, arrays: str | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Advantages ``[B, T]``, and the returns if the function returns a tuple."""
        kind = arrays or self.arrays
        rewards, mask = self._floats(rows.rewards, kind, dtype), self._mask(rows.mask, kind)
        if self.style == "verl":
            out = self._by_name(rows, rewards, mask, dtype)
        elif self.style == "values":
            out = self._call((rewards, self._floats(rows.values, kind, dtype), mask))
        else:
            out = self._call((rewards, mask, self._groups(rows.ids, kind)))
        second = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        first = self._shaped(out, rows.mask.shape)
        return first, None if second is None else self._shaped(second, rows.mask.shape)

    def _by_name(self, rows: _cases.TokenRows, rewards: Any, mask: Any, dtype: str | None) -> Any:
        known: dict[str, Callable[[], Any]] = {
            "token_level_rewards": lambda: rewards,
            "response_mask": lambda: mask,
            "index": lambda: self._groups(rows.ids, "torch"),
            "values": lambda: self._floats(rows.values, "torch", dtype),
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

    def _groups(self, ids: Sequence[Any] | NDArray[Any], kind: str) -> Any:
        """The ids, as the style has them; for "consecutive", the size of the groups, which must be slices."""
        if self.style == "consecutive":
            sizes = np.unique(np.asarray(ids), return_counts=True)[1]
            if len(set(sizes)) > 1 or (np.diff(np.asarray(ids)) < 0).any():
                not_applicable(_NO_IDS)
            return int(sizes[0])
        if isinstance(ids, np.ndarray) and ids.dtype.kind == "i":
            if self.style == "verl":  # verl's ids are UUIDs
                return np.array([f"prompt-{i}" for i in ids.tolist()], dtype=object)
            return self._torch(ids.astype(np.int64)) if kind == "torch" else ids.astype(np.int64)
        ids = list(ids)
        whole = all(isinstance(i, int) for i in ids)
        if kind == "torch" and self.style != "verl" and whole:
            return self._torch(np.array(ids, dtype=np.int64))
        if self.style != "verl" and whole:
            return np.array(ids, dtype=np.int64)
        out = np.empty(len(ids), dtype=object)
        out[:] = ids
        return out

    def _floats(self, x: NDArray[Any], kind: str, dtype: str | None) -> Any:
        out = np.array(x, dtype=dtype or ("float32" if kind == "torch" else "float64"))
        return self._torch(out) if kind == "torch" else out

    def _mask(self, x: NDArray[Any], kind: str) -> Any:
        out = np.array(x, dtype=self.mask_dtype)
        return self._torch(out) if kind == "torch" else out

    @staticmethod
    def _torch(x: NDArray[Any]) -> Any:
        import torch  # noqa: PLC0415 - only where the function takes tensors

        return torch.from_numpy(x)

    @staticmethod
    def _shaped(out: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
        first = to_numpy(out[0] if isinstance(out, tuple) else out)
        if first.shape != shape:
            fail(f"it returns the shape {list(first.shape)} for rewards of shape {list(shape)}")
        return first


def to_numpy(x: Any) -> NDArray[np.float64]:
    """Float64, a copy."""
    if is_tensor(x):
        return np.array(x.detach().double().cpu().numpy())
    try:
        return np.array(x, dtype=np.float64)
    except (TypeError, ValueError):
        return fail(f"it returns {type(x).__name__}, not an array of numbers")


def _copy(x: Any) -> Any:
    if is_tensor(x):
        return x.clone()
    return x.copy() if isinstance(x, np.ndarray) else x


def arguments_of(fn: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments, of what is behind decorators."""
    return tuple(inspect.signature(fn).parameters)


def abilities(style: str, arguments: tuple[str, ...] = ()) -> frozenset[str]:
    """What a function of a style takes; of verl's, by the names of its arguments."""
    if style == "verl":
        found = {"tokens"}
        found |= {"groups", "ids"} if "index" in arguments else set()
        found |= {"values"} if "values" in arguments else set()
        return frozenset(found)
    takes = {
        "rollouts": {"groups", "ids"},
        "consecutive": {"groups"},
        "tokens": {"groups", "ids", "tokens"},
        "values": {"tokens", "values"},
    }
    return frozenset(takes[style])
