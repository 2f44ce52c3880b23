"""Partial statistics of parts of the vocabulary, merged in plain torch, and what all rows end with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch

from rollmath.vocab._torch_shift import LN2

Stats: TypeAlias = dict[str, torch.Tensor]

#: What the reductions can return.
NAMES = (
    "logprob",
    "entropy",
    "lse",
    "sum_p_squared",
    "var_logprob",
    "p_max",
    "argmax",
    "mean_logprob",
    "gathered",
)

#: The columns of ``partials``, then one for each of ``ids``. With ``d = x k - c`` and ``e = 2^d``: c, sum e, sum e d,
#: sum e^2, sum e (d - w / l)^2, sum d, the token of the largest logit, d of the label (-inf if it is not here), the
#: largest d, which is 0 but for the rounding of c, and how many columns there are.
PARTIALS = ("shift", "l", "w", "s2", "v", "sum", "argmax", "label", "top", "count")

# 2 to this is exactly 0 in float64.
_LOWEST = -2000.0

# The gradient of one takes the other too.
_NEEDS = {"var_logprob": ("entropy",), "p_max": ("argmax",)}


def needed(outputs: Sequence[str]) -> tuple[str, ...]:
    """``outputs`` and what their gradients are made of, in the order of ``NAMES``."""
    wanted = {*outputs, *(other for name in outputs for other in _NEEDS.get(name, ()))}
    return tuple(name for name in NAMES if name in wanted)


def finish(
    out: Stats,
    labels: torch.Tensor | None,
    mask: torch.Tensor | None,
    ignore_index: int | None,
    ids: torch.Tensor | None,
    total: int,
) -> Stats:
    """NaN for tokens that do not exist, 0 for ignored labels and masked rows; in place."""
    if "logprob" in out and labels is not None:
        out["logprob"].masked_fill_((labels < 0) | (labels >= total), torch.nan)
        if ignore_index is not None:
            out["logprob"].masked_fill_(labels == ignore_index, 0)
    if "gathered" in out and ids is not None:
        out["gathered"].masked_fill_((ids < 0) | (ids >= total), torch.nan)
    if mask is not None:
        for x in out.values():
            x.masked_fill_(~mask.view(-1, *[1] * (x.dim() - 1)), 0)
    return out


def merge(
    parts: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    outputs: Sequence[str],
    total: int,
    mask: torch.Tensor | None = None,
    ignore_index: int | None = None,
    ids: torch.Tensor | None = None,
) -> Stats:
    """What ``forward`` returns, from the partials ``[S, N, P]`` of S parts in the order of their tokens."""
    wide = parts.double()
    column = dict(zip(PARTIALS, wide.unbind(2), strict=False))
    shifts = column["shift"]
    shift = shifts.amax(0)
    # A part of nothing but -inf adds 0; a row of nothing else has the logarithm -inf.
    apart = shifts - shift.masked_fill(shift == -torch.inf, 0)
    step = apart.clamp(min=_LOWEST)
    power = step.exp2()
    share = column["l"] * power
    total_l = share.sum(0)
    log2_l = total_l.log2()
    own_mean = (column["w"] / column["l"]).masked_fill_(column["l"] == 0, 0) + step
    mean = (share * own_mean).sum(0) / total_l
    made = {"shift": shift, "log2_l": log2_l}
    for name in needed(outputs):
        if name == "logprob":
            made[name] = (column["label"] + apart).amax(0) - log2_l
        elif name == "gathered":
            made[name] = (wide[:, :, len(PARTIALS) :] + apart[:, :, None]).amax(0) - log2_l[:, None]
        elif name == "entropy":
            made[name] = log2_l - mean
        elif name == "lse":
            made[name] = shift + log2_l
        elif name == "sum_p_squared":
            made[name] = (column["s2"] * power.square()).sum(0) / total_l.square()
        elif name == "var_logprob":
            # Of the parts: the variance in each, and that of their means.
            spread = column["v"] * power + share * (own_mean - mean).square()
            made[name] = spread.sum(0) / total_l * LN2
        elif name == "mean_logprob":
            made[name] = _mean(column, apart) - log2_l
        elif name == "p_max":
            best = _best(column) - shift - log2_l
            made[name] = best.exp2().masked_fill(total_l == 0, torch.nan)
        else:
            made[name] = _first_best(column)
    natural = {"logprob", "gathered", "entropy", "lse", "var_logprob", "mean_logprob"}
    out = {name: (x * LN2 if name in natural else x).to(_dtype(name, parts)) for name, x in made.items()}
    return finish(out, labels, mask, ignore_index, ids, total)


def _best(column: Stats) -> torch.Tensor:
    """The largest ``x k`` of each row."""
    return (column["shift"] + column["top"]).amax(0)


def _first_best(column: Stats) -> torch.Tensor:
    """Its token, the first of ties in whatever order the parts come; 0 if a row has NaN."""
    highest = column["shift"] + column["top"] == _best(column)
    tokens = column["argmax"].masked_fill(~highest, torch.inf).amin(0)
    return tokens.masked_fill_(tokens == torch.inf, 0)


def _mean(column: Stats, apart: torch.Tensor) -> torch.Tensor:
    """The mean of ``d`` over all columns."""
    count = column["count"]
    moved = (column["sum"] + count * apart).masked_fill_(count == 0, 0)
    return moved.sum(0) / count.sum(0)


def _dtype(name: str, parts: torch.Tensor) -> torch.dtype:
    return torch.int64 if name == "argmax" else parts.dtype
