"""Losses of numbers that are no log-probabilities: any values a token, weighted as an aggregation says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch

from rollmath._arrays import describe
from rollmath._logprobs import unnested
from rollmath.loss._everything import Everything
from rollmath.loss._objectives import NOTHING
from rollmath.loss._places import check_offsets, check_shape, pieces
from rollmath.loss._tokens import total
from rollmath.loss._values import Values, put, take, weight_of
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
        weight = weight_of(weights, piece, like)
        term = formula(take(flat, where).to(dtype), *[x.at(piece, like) for x in constants])
        loss = loss + (total(term.loss) * weight if isinstance(weight, float) else total(term.loss * weight))
        sums = {name: x + term.sums[name] for name, x in sums.items()}
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
    weight = layout.spread_rows(weights, like)
    term = formula(layout.column(values, like.dtype), *[layout.values(x, like) for x in constants])
    gradient = None
    if wanted:
        gradient = weight if term.slope is None else term.slope * weight
    return Weighed(total(term.loss * weight), gradient, dict(term.sums))
