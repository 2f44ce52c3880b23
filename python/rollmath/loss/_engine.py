"""The arithmetic of a loss, over pieces that fit the cache of a CPU, or over all positions at once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from rollmath._buffers import fresh
from rollmath.loss._arithmetic import core
from rollmath.loss._batch import BatchObjective
from rollmath.loss._call import Call, Result
from rollmath.loss._compiled import compiled
from rollmath.loss._everything import Everything
from rollmath.loss._fused import fused
from rollmath.loss._places import Piece, pieces
from rollmath.loss._spans import Spans
from rollmath.loss._tokens import Tokens
from rollmath.loss._values import put, take, weight_of
from rollmath.ragged import Ragged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def evaluate(call: Call) -> Result:
    """Dispatch: by pieces on a CPU; on a GPU by kernels made for the rules.

    What has no kernel, or is to be compiled, goes at once, with shapes that depend on no value.
    """
    if call.logprobs.theta.device.type == "cpu":
        if not call.compiled:
            return in_pieces(call)
        # What in_pieces checks as it goes: constants are finite where tokens are trained.
        everything = Piece(call.rows, range(call.rows.n_rows))
        for constants in (call.advantages, call.weight, call.entropy_weight):
            if constants is not None:
                constants.at(everything, torch.empty(0, dtype=call.dtype))
    elif call.finish and not call.compiled and isinstance(found := fused(call), Result):
        return found
    return at_once(call)


def in_pieces(call: Call) -> Result:
    """Only trained tokens are read; temporaries are as long as a piece."""
    given, rows, dtype = call.logprobs, call.rows, call.dtype
    shape = given.shape
    covered = int(rows.trained.sum()) == given.theta.numel()
    g_theta = fresh(given.theta.numel(), dtype, zeros=not covered)
    bonus = call.entropy
    live = call.weights[rows.trained > 0]
    g_entropy = None
    if bonus is not None and covered and call.entropy_weight is None and len(live) and (live == live[0]).all():
        g_entropy = torch.tensor(-bonus.coef * float(live[0]), dtype=dtype)
    elif bonus is not None:
        g_entropy = fresh(given.theta.numel(), dtype, zeros=not covered)
    entropies = None if bonus is None else bonus.values.detach().reshape(-1)
    flat = {name: x.detach().reshape(-1) for name, x in given.given().items()}
    if (chosen := call.selected()) is not None:
        flat["selected"] = chosen
    sums: dict[str, torch.Tensor] = {}
    for piece in pieces(rows, whole_rollouts=call.rules.coupled):
        where = piece.at(shape)
        columns = {name: take(x, where).to(dtype) for name, x in flat.items()}
        tokens = Tokens(
            columns.pop("theta"),
            call.advantages.at(piece, g_theta),
            weight_of(call.weights, piece, g_theta),
            Spans(piece.trained, piece.trained, partial(_rollout, piece), partial(_turns, piece), g_theta.device),
            version=None if rows.version is None else partial(_version, rows.version, piece),
            **columns,
        )
        part = core(
            call.rules,
            tokens,
            None if call.weight is None else call.weight.at(piece, g_theta),
            None if entropies is None else take(entropies, where).to(dtype),
            None if call.entropy_weight is None else call.entropy_weight.at(piece, g_theta),
        )
        put(g_theta, where, part.theta)
        if g_entropy is not None and g_entropy.dim():
            put(g_entropy, where, part.entropy)
        for name, x in part.sums.items():
            if name in sums:
                sums[name] = torch.maximum(sums[name], x) if name.endswith("_max") else sums[name] + x
            else:
                sums[name] = x
    return Result(g_theta, g_entropy, sums or _nothing(call))


def at_once(call: Call) -> Result:
    """All positions at once, gaps and padding as tokens of weight 0: no index of the trained ones is needed."""
    given, rows, dtype = call.logprobs, call.rows, call.dtype
    layout = Everything(rows, given.shape, given.theta.device)
    like = given.theta.new_empty(0, dtype=dtype)
    columns = {name: layout.column(x, dtype) for name, x in given.given().items()}
    if (chosen := call.selected()) is not None:
        columns["selected"] = layout.column(chosen, dtype)
    weights = layout.spread_rows(call.weights, like)
    tokens = Tokens(
        columns.pop("theta"),
        layout.values(call.advantages, like),
        weights,
        layout.spans,
        version=None if rows.version is None else partial(layout.version, rows.version),
        mask=layout.mask(dtype),
        **columns,
    )
    bonus = call.entropy
    part = (compiled if call.compiled else core)(
        call.rules,
        tokens,
        None if call.weight is None else layout.values(call.weight, like),
        None if bonus is None else layout.column(bonus.values, dtype),
        None if call.entropy_weight is None else layout.values(call.entropy_weight, like),
    )
    entropy = part.entropy
    if bonus is not None and not isinstance(entropy, torch.Tensor):
        entropy = torch.full_like(tokens.theta, entropy)
    return Result(part.theta, entropy if isinstance(entropy, torch.Tensor) else None, part.sums)


def _version(column: Ragged, piece: Piece) -> torch.Tensor:
    return torch.from_numpy(np.array(column.values[piece.at((len(column.values),))]))


def _rollout(piece: Piece) -> NDArray[np.int64]:
    return piece.rollout


def _turns(piece: Piece) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return piece.runs.trained, piece.runs.trained


def _nothing(call: Call) -> dict[str, torch.Tensor]:
    """The sums of no token."""
    empty = call.logprobs.theta.new_empty(0, dtype=call.dtype)
    others = {name: empty for name in call.logprobs.given() if name != "theta"}
    if isinstance(call.rules.objective, BatchObjective):
        others["selected"] = empty
    spans = Spans.none(empty.device)
    version = None if call.rows.version is None else torch.empty(0, dtype=torch.int64, device=empty.device)
    tokens = Tokens(empty, empty, 0.0, spans, version=version, **others)
    bonus = None if call.entropy is None else empty
    return core(call.rules, tokens, empty if call.weight else None, bonus, empty if call.entropy_weight else None).sums
