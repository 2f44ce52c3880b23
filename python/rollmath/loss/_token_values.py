"""Losses of numbers that are no log-probabilities: any values a token, weighted as an aggregation says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from rollmath._arrays import describe
from rollmath._logprobs import unnested
from rollmath.loss._everything import Everything
from rollmath.loss._objectives import NOTHING
from rollmath.loss._places import Piece, check_offsets, check_shape, pieces
from rollmath.loss._spans import repeated
from rollmath.loss._values import Values, put, take
from rollmath.rows import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenTerm(NamedTuple):
    """What a formula makes of some tokens: the loss of each, its derivative (None for 1 everywhere), named sums."""

    loss: torch.Tensor
    slope: torch.Tensor | None
    sums: Mapping[str, torch.Tensor] = NOTHING


#: From the values of some tokens and the constants beside them. All 0 where all of these are 0: on a device, positions
#: without a trained token are there too, as zeros.
Formula: TypeAlias = Callable[..., TokenTerm]


class Weighed(NamedTuple):
    """``sum_t w_t L_t``, its derivative with respect to the flat values, and named sums."""

    loss: torch.Tensor
    gradient: torch.Tensor | None
    sums: dict[str, torch.Tensor]


def read(who: str, x: Any, rows: Rows) -> torch.Tensor:
    """Values a token as a dense tensor: packed ``[positions]``, jagged, or padded ``[n_rows, T]``.

    Raises:
        TypeError: no float tensor.
        ValueError: a shape or offsets that are not those of the rows.
    """
    if isinstance(x, torch.Tensor):
        x, offsets = unnested(who, "values", x)
        check_offsets(who, "values", rows, offsets)
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.layout != torch.strided:
        msg = f"{who}(): 'values' must be a float tensor, packed, jagged or padded, got {describe(x)}"
        raise TypeError(msg)
    check_shape(who, "values", rows, tuple(x.shape))
    return x


def weigh(
    values: torch.Tensor,
    rows: Rows,
    weights: NDArray[np.float64],
    formula: Formula,
    constants: Sequence[Values] = (),
) -> Weighed:
    """The weighted loss of the trained tokens. ``weights`` has that of a token of each row.

    On a CPU only trained positions are read, in pieces that fit the cache; elsewhere all at once, without an index.
    The gradient is computed only if it can be asked for.
    """
    wanted = values.requires_grad and torch.is_grad_enabled()
    with torch.no_grad():
        run = _in_pieces if values.device.type == "cpu" else _at_once
        return run(values.detach(), rows, weights, formula, constants, wanted)


def arithmetic(values: torch.Tensor) -> torch.dtype:
    """The dtype of the arithmetic and of the result."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _in_pieces(
    values: torch.Tensor,
    rows: Rows,
    weights: NDArray[np.float64],
    formula: Formula,
    constants: Sequence[Values],
    wanted: bool,
) -> Weighed:
    shape, flat, dtype = tuple(values.shape), values.reshape(-1), arithmetic(values)
    gradient = torch.zeros(flat.numel(), dtype=dtype) if wanted else None
    like = torch.empty(0, dtype=dtype)
    loss, sums = torch.zeros((), dtype=torch.float64), dict(formula(like, *[like for _ in constants]).sums)
    for piece in pieces(rows, whole_rollouts=False):
        where = piece.at(shape)
        weight = _weight(weights[piece.index], piece, like)
        term = formula(take(flat, where).to(dtype), *[x.at(piece, like) for x in constants])
        if isinstance(weight, float):
            loss = loss + term.loss.sum(dtype=torch.float64) * weight
        else:
            loss = loss + (term.loss * weight).sum(dtype=torch.float64)
        sums = {name: total + term.sums[name] for name, total in sums.items()}
        if gradient is not None:
            put(gradient, where, weight if term.slope is None else term.slope * weight)
    return Weighed(loss, gradient, sums)


def _at_once(
    values: torch.Tensor,
    rows: Rows,
    weights: NDArray[np.float64],
    formula: Formula,
    constants: Sequence[Values],
    wanted: bool,
) -> Weighed:
    layout = Everything(rows, tuple(values.shape), values.device)
    like = values.new_empty(0, dtype=arithmetic(values))
    mask, weight = layout.mask(like.dtype), layout.spread_rows(weights, like)
    flat = values.reshape(-1).to(like.dtype)
    # What is behind the mask may be NaN, which no multiplication by 0 takes away.
    flat = flat if mask is None else torch.where(mask != 0, flat, 0)
    term = formula(flat, *[layout.values(x, like) for x in constants])
    gradient = None
    if wanted:
        gradient = weight if term.slope is None else term.slope * weight
    return Weighed((term.loss * weight).sum(dtype=torch.float64), gradient, dict(term.sums))


def _weight(weights: NDArray[np.float64], piece: Piece, like: torch.Tensor) -> float | torch.Tensor:
    """The weight of each trained token, one number if they have the same."""
    live = weights[piece.trained > 0]
    if (live == live[0]).all():
        return float(live[0])
    per = torch.from_numpy(weights).to(like.dtype)
    return repeated(per, piece.trained)
