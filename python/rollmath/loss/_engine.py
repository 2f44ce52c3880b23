"""The arithmetic of a loss, over pieces that fit the cache of a CPU, or over all positions at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from rollmath._logprobs import LogProbs
from rollmath.loss._batch import BatchObjective
from rollmath.loss._check import check_token_loss
from rollmath.loss._objectives import Objective
from rollmath.loss._places import Piece, pieces, runs_of
from rollmath.loss._spans import Spans
from rollmath.loss._terms import Correction, EntropyBonus
from rollmath.loss._tokens import Tokens
from rollmath.loss._values import Values, on, take
from rollmath.rows import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Call:
    """A checked call of policy_loss.

    Attributes:
        weights: weight of a token of each row, float64 ``[n_rows]``.
        weight: further weights of the policy term.
    """

    who: str
    logprobs: LogProbs
    rows: Rows
    advantages: Values
    weights: NDArray[np.float64]
    objective: Objective
    weight: Values | None = None
    correction: Correction | None = None
    kl: Objective | None = None
    entropy: EntropyBonus | None = None
    entropy_weight: Values | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the arithmetic."""
        return torch.float64 if self.logprobs.theta.dtype == torch.float64 else torch.float32

    @property
    def whole_rollouts(self) -> bool:
        """Whether tokens of a rollout must be seen together."""
        return self.objective.coupling == "sequence" or (self.correction is not None and self.correction.coupled)


class Result(NamedTuple):
    """Derivatives with respect to flattened theta and entropies, before the scale of the trainer, and named sums."""

    theta: torch.Tensor
    entropy: torch.Tensor | None
    sums: dict[str, torch.Tensor]


class Part(NamedTuple):
    """The same of some tokens."""

    theta: torch.Tensor
    entropy: torch.Tensor | float
    sums: dict[str, torch.Tensor]


def evaluate(call: Call) -> Result:
    """Dispatch: by pieces on a CPU; elsewhere at once, with shapes that depend on no value."""
    return in_pieces(call) if call.logprobs.theta.device.type == "cpu" else at_once(call)


def in_pieces(call: Call) -> Result:
    """Only trained tokens are read; temporaries are as long as a piece."""
    given, rows, dtype = call.logprobs, call.rows, call.dtype
    shape = given.shape
    covered = int(rows.trained.sum()) == given.theta.numel()
    make = torch.empty if covered else torch.zeros
    g_theta = make(given.theta.numel(), dtype=dtype)
    bonus = call.entropy
    g_entropy = None if bonus is None else make(given.theta.numel(), dtype=dtype)
    entropies = None if bonus is None else bonus.values.detach().reshape(-1)
    flat = {name: x.detach().reshape(-1) for name, x in given.given().items()}
    if (chosen := _selected(call)) is not None:
        flat["selected"] = chosen
    version = None if rows.version is None else torch.from_numpy(rows.version.values.copy())
    sums: dict[str, torch.Tensor] = {}
    for piece in pieces(rows, whole_rollouts=call.whole_rollouts):
        where = piece.at(shape)
        columns = {name: take(x, where).to(dtype) for name, x in flat.items()}
        tokens = Tokens(
            columns.pop("theta"),
            call.advantages.at(piece, g_theta),
            _weight(call, piece, g_theta),
            Spans(piece.trained, piece.trained, piece.rollout, partial(_turns, piece), g_theta.device),
            version=None if version is None else take(version, piece.at((len(version),))),
            **columns,
        )
        part = core(
            call,
            tokens,
            None if call.weight is None else call.weight.at(piece, g_theta),
            None if entropies is None else take(entropies, where).to(dtype),
            None if call.entropy_weight is None else call.entropy_weight.at(piece, g_theta),
        )
        _put(g_theta, where, part.theta)
        if g_entropy is not None:
            _put(g_entropy, where, part.entropy)
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
    mask = layout.mask(dtype)

    def column(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().reshape(-1).to(dtype)
        # What is behind the mask may be NaN, which no multiplication by 0 takes away.
        return x if mask is None else torch.where(mask != 0, x, 0)

    like = given.theta.new_empty(0, dtype=dtype)
    columns = {name: column(x) for name, x in given.given().items()}
    if (chosen := _selected(call)) is not None:
        columns["selected"] = column(chosen)
    weights = layout.spread_rows(call.weights, like)
    tokens = Tokens(
        columns.pop("theta"),
        layout.values(call.advantages, like),
        weights,
        layout.spans,
        version=layout.version(),
        mask=mask,
        **columns,
    )
    bonus = call.entropy
    part = core(
        call,
        tokens,
        None if call.weight is None else layout.values(call.weight, like),
        None if bonus is None else column(bonus.values),
        None if call.entropy_weight is None else layout.values(call.entropy_weight, like),
    )
    entropy = part.entropy
    if bonus is not None and not isinstance(entropy, torch.Tensor):
        entropy = torch.full_like(tokens.theta, entropy)
    return Result(part.theta, entropy if isinstance(entropy, torch.Tensor) else None, part.sums)


def core(
    call: Call,
    tokens: Tokens,
    weight: torch.Tensor | None,
    entropy: torch.Tensor | None,
    entropy_weight: torch.Tensor | None,
) -> Part:
    """Derivatives and sums of some tokens."""
    sums: dict[str, torch.Tensor] = {}
    policy = tokens
    if call.correction is not None:
        corrected, sums = call.correction.weigh(tokens)
        policy = tokens.reweighted(corrected)
    if weight is not None:
        policy = policy.reweighted(weight)
    out = check_token_loss(call.who, call.objective.token_loss(policy), tokens.theta)
    gradient = out.gradient
    log_ratio = tokens.log_ratio
    sums |= {
        "policy_loss": weighted_sum(policy, out.loss),
        "signal": _count(gradient),
        **out.counts,
        "log_ratio": tokens.total(log_ratio),
        "approx_kl": tokens.total(torch.expm1(log_ratio) - log_ratio),
        "ratio": tokens.total(tokens.ratio),
        "ratio_max": tokens.largest(tokens.ratio).double(),
    }
    if call.kl is not None:
        term = check_token_loss(call.who, call.kl.token_loss(tokens), tokens.theta, name="kl")
        sums |= {"kl_loss": weighted_sum(tokens, term.loss), **term.counts}
        gradient = gradient + term.gradient
    g_entropy: torch.Tensor | float = 0.0
    if call.entropy is not None and entropy is not None:
        sums["entropy"] = tokens.total(entropy)
        each = tokens if entropy_weight is None else tokens.reweighted(entropy_weight)
        sums["entropy_loss"] = weighted_sum(each, entropy) * -call.entropy.coef
        g_entropy = each.weight * -call.entropy.coef
    return Part(gradient, g_entropy, sums)


def weighted_sum(tokens: Tokens, loss: torch.Tensor) -> torch.Tensor:
    """``sum_t weight_t loss_t``, 0-d float64. A weight that is a tensor is 0 where nothing is trained."""
    if isinstance(tokens.weight, torch.Tensor):
        return (loss * tokens.weight).sum(dtype=torch.float64)
    return tokens.total(loss) * tokens.weight


class Everything:
    """All positions of a call, packed or padded, on a device."""

    def __init__(self, rows: Rows, shape: tuple[int, ...], device: torch.device) -> None:
        self.rows, self.shape, self.device = rows, shape, device
        width = shape[1] if len(shape) == 2 else None
        self.lengths = rows.lengths if width is None else np.full(rows.n_rows, width)
        self.spans = Spans(self.lengths, rows.trained, rows.rollouts.index, self._runs, device, width)

    def _runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        runs = runs_of(self.rows, np.arange(self.rows.n_rows))
        if len(self.shape) == 1:
            return runs.lengths, runs.inside
        # Padding is one more run at the end of each row.
        ends = np.searchsorted(np.cumsum(runs.lengths), np.cumsum(self.rows.lengths), side="left") + 1
        ends[np.cumsum(self.rows.lengths) == 0] = 0
        return np.insert(runs.lengths, ends, self.lengths - self.rows.lengths), np.insert(runs.inside, ends, 0)

    def mask(self, dtype: torch.dtype) -> torch.Tensor | None:
        """1.0 where trained, or None if everything is."""
        rows = self.rows
        if int(rows.trained.sum()) == int(self.lengths.sum()):
            return None
        if len(self.shape) == 1:
            inside = rows.mask
        elif rows.mask is None:
            lengths = on(rows.lengths, torch.empty(0, device=self.device))
            return (torch.arange(self.shape[1], device=self.device) < lengths[:, None]).reshape(-1).to(dtype)
        else:
            inside = np.zeros(int(self.lengths.sum()), np.uint8)
            inside[Piece(rows, range(rows.n_rows)).at(self.shape)] = 1
        return (torch.from_numpy(np.array(inside)).to(self.device, non_blocking=True) != 0).to(dtype)

    def spread_rows(self, x: NDArray[np.float64], like: torch.Tensor) -> torch.Tensor:
        """One number a row for each position, 0 where nothing is trained."""
        per = torch.from_numpy(x).to(like.dtype).to(like.device, non_blocking=True)
        spread, mask = self.spans.spread(per, "row"), self.mask(like.dtype)
        return spread if mask is None else spread * mask

    def values(self, source: Values, like: torch.Tensor) -> torch.Tensor:
        """Constants for each position, 0 where nothing is trained."""
        if source.level in {"rollout", "row"}:
            found = self.spans.spread(source.per_row(like), "row")
        elif source.level == "token" and tuple(source.values.shape) == self.shape:
            found = source.narrow(source.values.reshape(-1), like)
        else:
            everything = Piece(self.rows, range(self.rows.n_rows))
            where, found = everything.at(self.shape), source.at(everything, like)
            if isinstance(where, slice):
                return found
            return like.new_zeros(int(self.lengths.sum())).index_copy(0, on(where, like), found)
        mask = self.mask(like.dtype)
        return found if mask is None else torch.where(mask != 0, found, 0)

    def version(self) -> torch.Tensor | None:
        """The policy version of each position, -1 in padding."""
        if self.rows.version is None:
            return None
        values = self.rows.version.values
        if len(self.shape) == 2:
            padded = np.full(int(self.lengths.sum()), -1, np.int64)
            all_trained = Rows(self.rows.rollouts, self.rows.lengths)
            padded[Piece(all_trained, range(self.rows.n_rows)).at(self.shape)] = values
            values = padded
        return torch.from_numpy(np.array(values)).to(self.device, non_blocking=True)


def _selected(call: Call) -> torch.Tensor | None:
    """1.0 at the tokens that a batch-coupled objective has chosen, flat in the shape of theta."""
    if not isinstance(call.objective, BatchObjective):
        return None
    theta, offsets = call.logprobs.theta, call.rows.offsets
    row, position = call.objective.chosen(call.who).among(call.who, call.rows)
    flat = position + (offsets[row] if theta.dim() == 1 else row * theta.shape[1])
    return torch.zeros(theta.numel(), dtype=call.dtype, device=theta.device).index_fill_(0, on(flat, theta), 1)


def _turns(piece: Piece) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return piece.runs.trained, piece.runs.trained


def _weight(call: Call, piece: Piece, like: torch.Tensor) -> float | torch.Tensor:
    weights = call.weights[piece.index]
    live = weights[piece.trained > 0]
    if len(live) == 0 or (live == live[0]).all():
        return float(live[0]) if len(live) else 0.0
    per = torch.from_numpy(weights).to(like.dtype)
    return per.repeat_interleave(on(piece.trained, like), output_size=int(piece.trained.sum()))


def _put(flat: torch.Tensor, where: slice | NDArray[np.int64], x: torch.Tensor | float) -> None:
    if isinstance(where, slice):
        flat[where] = x
    elif isinstance(x, torch.Tensor):
        flat.index_copy_(0, on(where, flat), x)
    else:
        flat.index_fill_(0, on(where, flat), x)


def _count(gradient: torch.Tensor) -> torch.Tensor:
    return torch.count_nonzero(gradient).double()


def _nothing(call: Call) -> dict[str, torch.Tensor]:
    """The sums of no token."""
    empty = call.logprobs.theta.new_empty(0, dtype=call.dtype)
    others = {name: empty for name in call.logprobs.given() if name != "theta"}
    if isinstance(call.objective, BatchObjective):
        others["selected"] = empty
    none = np.zeros(0, np.int64)
    spans = Spans(none, none, none, lambda: (none, none), empty.device)
    version = None if call.rows.version is None else torch.empty(0, dtype=torch.int64, device=empty.device)
    tokens = Tokens(empty, empty, 0.0, spans, version=version, **others)
    bonus = None if call.entropy is None else empty
    return core(call, tokens, empty if call.weight else None, bonus, empty if call.entropy_weight else None).sums
