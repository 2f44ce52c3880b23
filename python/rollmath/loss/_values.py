"""Constants of a loss, such as advantages: one a rollout, row, turn or token, brought to the tokens piece by piece."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from rollmath._arrays import ArrayLike, choice
from rollmath._columns import flat_positions
from rollmath._logprobs import unnested
from rollmath.loss._elementwise import from_host
from rollmath.loss._places import Piece, check_offsets, check_shape, runs_of
from rollmath.loss._spans import repeated
from rollmath.ragged import Ragged
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = ("rollout", "row", "turn", "token")

#: Arguments that ``level=`` speaks of.
LEVELED = ("advantages", "returns")


class Values:
    """Numbers of an argument and the level that they are of."""

    def __init__(self, who: str, name: str, x: ArrayLike, rows: Rows, level: str | None) -> None:
        """Reads and checks the argument.

        Raises:
            ValueError: a shape that fits no level or two that differ, a tensor that requires grad.
            TypeError: not numbers.
        """
        self.who, self.name, self.rows = who, name, rows
        self.values = _numbers(who, name, x, rows)
        if level is None and (isinstance(x, Ragged) or (isinstance(x, torch.Tensor) and x.is_nested)):
            level = "token"  # as their offsets say, whatever their length
        self.level = _level(who, name, tuple(self.values.shape), rows, level)
        if self.level == "token":
            check_shape(who, name, rows, tuple(self.values.shape))

    @cached_property
    def _turns_before(self) -> NDArray[np.int64]:
        """Number of turns in the rows before each row, and in all."""
        counts = runs_of(self.rows, np.arange(self.rows.n_rows)).turns
        return np.concatenate([[0], np.cumsum(counts)])

    def at(self, piece: Piece, like: torch.Tensor) -> torch.Tensor:
        """One number for each trained token of a piece, in the dtype and on the device of ``like``."""
        counts = None
        if self.level == "token":
            given = take(self.values.reshape(-1), piece.at(tuple(self.values.shape)))
        else:
            source, counts = piece.index, piece.trained
            if self.level == "rollout":
                source = self.rows.rollouts.index[source]
            if self.level == "turn":
                source, counts = flat_positions(self._turns_before, source), piece.runs.trained
            given = self.values[on(source, self.values)]
        found = self.narrow(given, like)
        if counts is None:
            self.finite_or_raise(found, given)
            return found
        if (counts > 0).all():
            self.finite_or_raise(found, given)
        else:
            live = on(np.flatnonzero(counts), given)
            self.finite_or_raise(found[live.to(found.device)], given[live])
        return repeated(found, counts)

    def per_row(self, like: torch.Tensor) -> torch.Tensor:
        """One number a row, of values at the level of rollouts or rows."""
        values: torch.Tensor = (
            self.values if self.level == "row" else self.values[on(self.rows.rollouts.index, self.values)]
        )
        return self.narrow(values, like)

    def narrow(self, x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """In the dtype and on the device of ``like``."""
        return x.to(device=like.device, dtype=like.dtype, non_blocking=x.device.type == "cpu")

    def finite_or_raise(self, x: torch.Tensor, given: torch.Tensor) -> None:
        """Raises ValueError if ``x``, made of ``given``, is not finite."""
        # Numbers on another device are not looked at: that would wait for it. A NaN there reaches the loss.
        if x.device.type != "cpu" or bool(x.sum(dtype=torch.float64).isfinite()):
            return
        # What was given, before it became infinite in a narrower dtype.
        bad = given.to(x.device)[~x.isfinite()]
        if len(bad):
            where = f"finite in {str(x.dtype).removeprefix('torch.')}"
            msg = f"{self.who}(): {self.name!r} must be {where} where tokens are trained, got {float(bad[0])}"
            raise ValueError(msg)


def weight_of(weights: NDArray[np.float64], piece: Piece, like: torch.Tensor) -> float | torch.Tensor:
    """The weight of each trained token of a piece, one number if they have the same; ``weights`` has one a row."""
    weights = weights[piece.index]
    live = weights[piece.trained > 0]
    if len(live) == 0 or (live == live[0]).all():
        return float(live[0]) if len(live) else 0.0
    return repeated(torch.from_numpy(weights).to(like.dtype), piece.trained)


def take(flat: torch.Tensor, where: slice | NDArray[np.int64]) -> torch.Tensor:
    """``flat[where]``, a view if it can be one."""
    return flat[where] if isinstance(where, slice) else flat.index_select(0, on(where, flat))


def put(flat: torch.Tensor, where: slice | NDArray[np.int64], x: torch.Tensor | float) -> None:
    """``flat[where] = x``."""
    if isinstance(where, slice):
        flat[where] = x
    elif isinstance(x, torch.Tensor):
        flat.index_copy_(0, on(where, flat), x)
    else:
        flat.index_fill_(0, on(where, flat), x)


def on(x: NDArray[np.int64], like: torch.Tensor) -> torch.Tensor:
    """Indices or counts as a tensor on the device of ``like``."""
    # A copy if read-only, as columns of rows are, which torch does not know.
    return torch.from_numpy(x if x.flags.writeable else x.copy()).to(like.device, non_blocking=True)


def _numbers(who: str, name: str, x: ArrayLike, rows: Rows) -> torch.Tensor:
    if isinstance(x, Ragged):
        if not np.array_equal(x.offsets, rows.offsets):
            msg = f"{who}(): {name!r} as a Ragged must have the offsets of the rows; see Rows.expand"
            raise ValueError(msg)
        x = x.values
    if isinstance(x, torch.Tensor):
        if x.requires_grad:
            msg = f"{who}(): {name!r} requires grad, but it is a constant of the loss; call .detach()"
            raise ValueError(msg)
        x, offsets = unnested(who, name, x)
        check_offsets(who, name, rows, offsets)
        if x.is_meta or x.layout != torch.strided or x.is_complex():
            msg = f"{who}(): {name!r} must be a dense tensor of real numbers, got {x.dtype}, "
            raise TypeError(msg + f"{x.layout} on {x.device}")
        return torch.as_tensor(x)
    return from_host(who, name, x)


def _level(who: str, name: str, shape: tuple[int, ...], rows: Rows, level: str | None) -> str:
    if level is not None:
        choice(who, "level", level, LEVELS)
    if len(shape) == 2 and level in {None, "token"}:
        return "token"
    sizes = {"rollout": rows.n_rollouts, "row": rows.n_rows, "token": int(rows.offsets[-1])}
    if level == "turn":
        sizes = {"turn": int(runs_of(rows, np.arange(rows.n_rows)).turns.sum())}
    fits = [kind for kind, size in sizes.items() if shape == (size,) and level in {None, kind}]
    if not fits:
        wanted = [f"({size},) (= {kind}s)" for kind, size in sizes.items() if level in {None, kind}]
        padded = f" or ({rows.n_rows}, T) (= padded tokens)" if level in {None, "token"} else ""
        msg = f"{who}(): {name!r} must have shape {', '.join(wanted)}{padded}, got {shape}"
        if len(shape) == 1 and level in {None, "rollout"} and rows.n_rollouts < shape[0]:
            msg += "; a row that serves several rollouts takes one number a token, see Forest.expand"
        raise ValueError(msg)
    # With one row a rollout, or one position a row, two levels are the same thing.
    if "row" in fits and "rollout" in fits:
        fits.remove("row")
    if "token" in fits and len(fits) > 1 and bool((rows.lengths == 1).all()):
        fits.remove("token")
    if len(fits) > 1:
        options = "say " + " or ".join(f"level={kind!r}" for kind in fits)
        if name not in LEVELED:
            options = "give one a token, see Rows.expand"
        msg = f"{who}(): {name!r} of length {shape[0]} could be one a {' or one a '.join(fits)}; {options}"
        raise ValueError(msg)
    return fits[0]
