"""What the reward maps ask of their arguments, and how they hand back their result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rollmath._arrays import Array, ArrayLike, Kind, floats, integers, mask_bytes, number

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """One number a rollout as float64, 0 where it takes no part, and the form in which a result goes back."""

    values: NDArray[np.float64]
    dtype: np.dtype[Any]
    kind: Kind

    def result(self, out: NDArray[np.float64], mask: NDArray[np.uint8] | None = None) -> Array:
        """Rounded once, 0 where the mask is 0."""
        if mask is not None:
            out = np.where(mask != 0, out, 0.0)
        return self.kind.wrap(out.astype(self.dtype, copy=False))


def column(
    who: str,
    name: str,
    x: ArrayLike,
    *,
    length: int | None = None,
    why: str = "len(groups)",
    mask: NDArray[np.uint8] | None = None,
    least: float = -math.inf,
) -> Column:
    """``x``, finite (and not below ``least``, which is 0 where given) where the mask is not 0."""
    values, kind = floats(who, name, x, length=length, why=why)
    wide = values.astype(np.float64, copy=False)
    if mask is not None:
        wide = np.where(mask != 0, wide, 0.0)
    wrong = ~np.isfinite(wide) | (wide < least)
    if wrong.any():
        limit = "finite" if least == -math.inf else "finite and not negative"
        msg = f"{who}(): {name!r} must be {limit} where rollouts are valid, got {wide[wrong][0]}"
        raise ValueError(msg)
    return Column(wide, values.dtype, kind)


def tokens(who: str, name: str, x: ArrayLike, length: int, least: int, why: str) -> NDArray[np.float64]:
    """Whole numbers of tokens, as float64."""
    counts, _ = integers(who, name, x, length=length, why=why)
    if len(counts) and counts.min() < least:
        msg = f"{who}(): {name!r} must be at least {least}, got {counts.min()}"
        raise ValueError(msg)
    return counts.astype(np.float64)


def hits(who: str, correct: ArrayLike | None, rewards: Column) -> NDArray[np.bool_]:
    """The given flags, or which rewards are positive."""
    given = mask_bytes(who, "correct", correct, length=len(rewards.values), why="len(rewards)")
    return rewards.values > 0 if given is None else given != 0


def option(who: str, name: str, value: object, *, least: float | None = None, above: float | None = None) -> float:
    """A finite scalar option, at least ``least`` or greater than ``above`` (one of the two, or neither)."""
    if isinstance(value, (bool, np.bool_)):
        msg = f"{who}(): {name!r} must be a number, got {value!r}"
        raise TypeError(msg)
    x = number(who, name, value)
    fits = math.isfinite(x) and (least is None or x >= least) and (above is None or x > above)
    if not fits:
        words = (
            f" and at least {least:g}"
            if least is not None
            else f" and greater than {above:g}"
            if above is not None
            else ""
        )
        msg = f"{who}(): {name!r} must be finite{words}, got {value!r}"
        raise ValueError(msg)
    return x
