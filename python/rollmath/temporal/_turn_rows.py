"""Tokens of rows and the turns that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, integers
from rollmath._token_rows import TokenRows
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TurnGAE(NamedTuple):
    """What :func:`turn_gae` and :func:`two_level_gae` return, in the form of the values."""

    advantages: Array | Ragged
    returns: Array | Ragged


def starts(rows: TokenRows) -> NDArray[np.int64]:
    """Where each row begins in the flat arrays, and their end."""
    if rows.packed is not None:
        return rows.packed.offsets
    return np.arange(rows.shape[0] + 1) * rows.shape[1]


@dataclass(frozen=True)
class TurnTokens:
    """The trained tokens of rows: not masked, and in a turn.

    ``rows`` has them for its mask; ``at`` are their places in its flat arrays, ``offsets`` where those of each row
    begin among them, and ``turn`` the turn of each.
    """

    rows: TokenRows
    at: NDArray[np.int64]
    offsets: NDArray[np.int64]
    turn: NDArray[np.int64]

    @classmethod
    def of(cls, rows: TokenRows, turns: Any, lengths: ArrayLike | None) -> TurnTokens:
        """Of turn numbers in the form of the rows, -1 at gaps."""
        numbers, _ = integers(rows.who, "turns", rows._flat("turns", turns, packed_too=True))
        inside = np.ones(rows.shape, bool)
        if lengths is not None:
            inside &= np.arange(rows.shape[1]) < integers(rows.who, "lengths", lengths)[0][:, None]
        inside = inside.reshape(-1)
        if (wrong := inside & (numbers < -1)).any():
            i = int(wrong.argmax())
            msg = f"{rows.who}(): 'turns' must be at least -1 (a gap), got {numbers[i]} at {place(rows, i)}"
            raise ValueError(msg)
        if rows.mask is not None:
            inside &= rows.mask != 0
            if (wrong := inside & (numbers < 0)).any():
                where = place(rows, int(wrong.argmax()))
                msg = f"{rows.who}(): 'turns' is -1 at {where}, where the mask is not 0; a trained token has a turn"
                raise ValueError(msg)
        keep = inside & (numbers >= 0)
        at = np.flatnonzero(keep)
        rows = replace(rows, mask=keep.view(np.uint8))
        return cls(rows, at, np.searchsorted(at, starts(rows)), numbers[at])

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offsets of turns into the trained tokens, and of rows into the turns."""
        n, turn = len(self.turn), self.turn
        first = np.zeros(n + 1, bool)
        first[self.offsets] = True
        falls = np.flatnonzero((turn[1:] < turn[:-1]) & ~first[1:n])
        if len(falls):
            i = falls[0]
            what = f"got {turn[i + 1]} after {turn[i]} at {place(self.rows, self.at[i + 1])}"
            msg = f"{self.rows.who}(): 'turns' must not decrease along a row, {what}"
            raise ValueError(msg)
        first[1:n] |= turn[1:] != turn[:-1]
        ends = np.flatnonzero(first)
        return ends, np.searchsorted(ends, self.offsets)

    def finite(self, name: str, flat: NDArray[Any]) -> NDArray[np.float64]:
        """The numbers of the trained tokens, float64."""
        x: NDArray[np.float64] = flat[self.at].astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(x))
        if len(wrong):
            value = "NaN" if np.isnan(x[wrong[0]]) else x[wrong[0]]
            what = f"got {value} at {place(self.rows, self.at[wrong[0]])}"
            msg = f"{self.rows.who}(): {name!r} must be finite at trained tokens, {what}"
            raise ValueError(msg)
        return x


def place(rows: TokenRows, at: Any) -> str:
    """Row and position of a place in the flat arrays."""
    row = int(np.searchsorted(starts(rows), at, side="right")) - 1
    return f"row {row}, position {at - starts(rows)[row]}"
